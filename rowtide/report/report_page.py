"""Render a run's report as one page of HTML.

Nothing is loaded from anywhere and nothing runs in it. Rows, remarks and tools' words are other people's text: each
thing that the template puts into the page goes through `escaping.html`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rowtide.escaping import escape_html
from rowtide.report import report_figures as figures
from rowtide.report import report_times as times
from rowtide.report.report_text import cost_line, headline, report_warnings, requests_for_a_person, run_status
from rowtide.text_format import format_duration, format_usd, shorten_text

MOVES = {
    "bounce": "sent back by the API",
    "correct": "told what was wrong",
    "extend_max_tokens": "cut, asked again with more room",
    "escalate": "sent one tier up",
    "hold": "held for a person",
    "recall": "asked again",
    "quarantine": "quarantined",
}

RunMetrics = Mapping[str, Any]


def render_report_page(
    found: RunMetrics, seen: RunMetrics, *, gates: Sequence[Mapping[str, str]] = (), now: datetime
) -> str:
    """The page. `found` is the run's summary, `seen` its picture, `gates` what each gate said and where that stands."""
    drawn = {
        "funnel": figures.row_funnel(found, seen),
        "cost": figures.cost_by_tier(found),
        "endings": figures.money_by_outcome(found, seen),
        "over_time": times.rows_over_time(seen),
        "timeline": times.batch_timeline(seen, now=now),
        "tokens": figures.tokens_by_turn(seen),
        "tools": figures.tool_call_chart(seen),
        "golden": figures.golden_accuracy(seen),
    }
    return (
        _environment()
        .get_template("report.html")
        .render(
            found=found,
            seen=seen,
            gates=gates,
            drawn=drawn,
            moves=MOVES,
            standing=run_status(found, seen),
            headline=headline(found),
            cost_line=cost_line(found),
            asks=requests_for_a_person(found, seen),
            warnings=report_warnings(found, seen),
            drawn_at=f"{now:%Y-%m-%d %H:%M:%S}",
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shorten_text, "usd": format_usd, "took": format_duration, "number": "{:,}".format}
    return environment


def _text(value: object) -> object:
    """What stands in the page, each thing: HTML of our own as it is, else text."""
    return value if isinstance(value, Markup) else escape_html(value)

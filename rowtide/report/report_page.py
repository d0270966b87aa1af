"""Render a run's report as one page of HTML."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rowtide.report import report_figures as figures
from rowtide.report import report_times as times
from rowtide.report.page_template import render_template
from rowtide.report.report_text import cost_line, headline, report_warnings, requests_for_a_person, run_status

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
    """Return the page as HTML. `found` is the run's summary, `seen` the report data, `gates` the verdict and link of
    each gate.
    """
    drawn = {
        "funnel": figures.row_funnel(found, seen),
        "cost": figures.cost_by_tier(found),
        "endings": figures.money_by_outcome(found, seen),
        "over_time": times.row_states_over_time(seen),
        "timeline": times.batch_timeline(seen, now=now),
        "tokens": figures.tokens_by_turn(seen),
        "tools": figures.tool_call_chart(seen),
        "golden": figures.golden_accuracy(seen),
    }
    return render_template(
        "report.html",
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

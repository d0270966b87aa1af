"""Formats a forecast as sentences, tables and warnings; for a terminal, for Prefect, and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rowtide.escaping import Markdown, escape_markdown, markdown_page, markdown_table
from rowtide.stages.forecast.build_forecast import ForecastInputs
from rowtide.text_format import format_duration, format_usd

HISTORY_ROWS = 200


@dataclass(frozen=True)
class ForecastTable:
    """A table: its headings, and its rows as text."""

    heads: list[str]
    lines: list[list[str]]


def forecast_sentence(seen: ForecastInputs) -> list[str]:
    """Return the forecast in one line (lane, rows, money, time) and its basis in another."""
    name, rows, likely = seen.plan.job.name, seen.rows, seen.forecast
    passed = [
        f"{count:,} {reason}" for reason, count in [*rows.refused.items(), ("unchanged", rows.unchanged)] if count
    ]
    of = f"of {rows.read:,} read ({', '.join(passed)})" if passed else "all that were read"
    if likely is None:
        return [f"{name}: nothing to ask, {of}."]
    return [
        f"{name}: {sum(rows.starts):,} rows to ask, {of}, by lane {seen.choice.lane.name} ({seen.choice.why}): likely "
        f"{format_usd(likely.likely_usd)}, {format_usd(likely.low_usd)} to {format_usd(likely.high_usd)} in nine "
        f"runs of ten, and done within {format_duration(likely.seconds)}.",
        _basis(seen),
    ]


def _basis(seen: ForecastInputs) -> str:
    counted = (
        f"{len(seen.tokens):,} rows' tokens were counted by {seen.counted_by}; turns, escalations and cache hits are"
    )
    if seen.history is None or seen.forecast is None:
        return f"{counted} guesses, because no run of this job was seen."
    runs = "1 run" if seen.history.runs == 1 else f"{seen.history.runs} runs"
    version = "as it is now" if seen.history.is_of_this_version else "as it was before it was changed"
    return f"{counted} those of {seen.history.rows:,} rows in {runs} of this job {version}."


def forecast_tables(seen: ForecastInputs) -> list[ForecastTable]:
    """Return a table by tier, and a table of alternatives."""
    if seen.forecast is None:
        return []
    heads = ["tier", "rows", "turns a row", "escalate", "input tokens", "output tokens", "cost", "seen before"]
    lines = [
        [
            each.tier,
            f"{each.rows:,.0f}",
            f"{each.turns:.2f}",
            f"{each.escalations:.1%}",
            f"{each.input_tokens:,.0f}",
            f"{each.output_tokens:,.0f}",
            format_usd(each.usd),
            f"{each.seen:,} rows" if each.seen else "no",
        ]
        for each in seen.forecast.tiers
    ]
    ways = [
        [
            f"{way.name} (this run)" if way.is_this else way.name,
            format_usd(way.usd),
            format_usd(way.uncached_usd),
            format_duration(way.seconds),
        ]
        for way in seen.forecast.ways
    ]
    return [ForecastTable(heads, lines), ForecastTable(["the same work", "cost", "with nothing cached", "time"], ways)]


def forecast_as_markdown(seen: ForecastInputs) -> Markdown:
    """Return the whole forecast as Markdown, for a Prefect artifact."""
    drawn = [markdown_table(each.heads, each.lines, numbers=len(each.heads) - 1) for each in forecast_tables(seen)]
    warned = [escape_markdown(f"Warning: {each}") for each in forecast_warnings(seen)]
    return markdown_page(*map(escape_markdown, forecast_sentence(seen)), *drawn, *warned)


def forecast_warnings(seen: ForecastInputs) -> list[str]:
    """Return warnings about running the job as planned."""
    spec, likely = seen.plan.job.spec, seen.forecast
    found = list(seen.plan.warnings)
    if likely is None:
        return found
    if seen.history is None:
        cost = format_usd(likely.likely_usd * min(1, HISTORY_ROWS / sum(seen.rows.starts)))
        found.append(
            f"no history: `rowtide run {seen.plan.job.name} --limit {HISTORY_ROWS}` makes some, for about {cost}"
        )
    if (budget := spec.limits.budget_usd) is not None and budget < likely.high_usd:
        is_short = "less than the likely cost" if budget < likely.likely_usd else "within the range: it may not suffice"
        found.append(f"limits.budget_usd is {format_usd(budget)}, {is_short}")
    if (minutes := spec.finish_within_minutes) is not None and likely.seconds > minutes * 60:
        found.append(
            f"finish_within_minutes is {minutes:g}, and this would likely take up to {format_duration(likely.seconds)}"
        )
    if seen.choice.lane.in_order and seen.history is None:
        found.append("the earlier rows that each row of the sequential lane sees are not counted")
    return found


def forecast_as_json(seen: ForecastInputs, warnings: Sequence[str]) -> dict[str, Any]:
    """Return the forecast as JSON-ready values."""
    rows, history = seen.rows, seen.history
    return {
        "job": seen.plan.job.name,
        "lane": seen.choice.lane.name,
        "why": seen.choice.why,
        "read": rows.read,
        "refused": rows.refused,
        "unchanged": rows.unchanged,
        "rows": sum(rows.starts),
        "starts": dict(zip(seen.plan.job.spec.tiers, rows.starts, strict=True)),
        "first_tokens": seen.tokens,
        "history": {"rows": history.rows, "runs": history.runs, "is_of_this_version": history.is_of_this_version}
        if history
        else None,
        "forecast": seen.forecast,
        "warnings": warnings,
    }

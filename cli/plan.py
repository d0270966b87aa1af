"""`rowtide plan JOB`."""

import asyncio
import os
import random
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
from cyclopts import Parameter, validators
from rich.table import Table

from blocks.claude_credentials import ClaudeCredentials
from cli.pump import Amount, AskedLane, claude_server, planned
from cli.say import home, out
from rowtide.agent.requests import cacheable_tokens
from rowtide.forecast.forecast import Forecast, forecast
from rowtide.forecast.stays import History, Prospect
from rowtide.forecast.survey import Survey, first_tokens, survey
from rowtide.job.job_folder import find_job
from rowtide.lanes import lanes
from rowtide.lanes.lanes import Choice, Pasts, choose
from rowtide.ledger import ledger_history, ledger_lanes
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.words import took, usd
from rowtide.work import Plan, tiers_of

HISTORY_ROWS = 200
SEED = 1  # the same plan twice says the same

Whole = Annotated[int, Parameter(validator=validators.Number(gte=1))]


@dataclass(frozen=True)
class Seen:
    """All that a forecast stands on, and the forecast; None when there is nothing to ask."""

    plan: Plan
    rows: Survey
    tokens: Sequence[int]
    counted_by: str
    history: History | None
    choice: Choice
    forecast: Forecast | None


def plan_(
    job: str,
    *,
    source: Path | None = None,
    limit: Whole | None = None,
    sample: Whole = 50,
    lane: AskedLane = "auto",
    budget: Amount = None,
    finish_within: Amount = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Say what a run would likely take and cost, before it is paid for. Nothing is asked and nothing is written.

    Parameters
    ----------
    job
        A name under jobs/, or a folder that holds a job.yaml.
    source
        A file to read instead of the job's own source.
    limit
        Take only the first so many rows.
    sample
        How many rows' tokens the API is asked to count, which is free.
    lane
        As for `rowtide run`.
    budget
        As for `rowtide run`, in US dollars.
    finish_within
        As for `rowtide run`, in minutes.
    json
        Print one JSON object on stdout.
    """
    found = planned(find_job(job, jobs=Path("jobs")), source)  # mistakes come before servers
    with _ledger_if_any() as ledger:
        seen = _see(_as_asked(found, lane, budget, finish_within), ledger, limit, sample)
    if json:
        sys.stdout.write(orjson.dumps(as_json(seen, warnings_of(seen))).decode() + "\n")
    else:
        _tell(seen)
    return 0


def _as_asked(found: Plan, lane: AskedLane, budget: float | None, finish_within: float | None) -> Plan:
    """The plan of a job that says itself what the command says."""
    spec = found.job.spec
    changes = {
        "lane": spec.lane if lane == "auto" else lane,
        "limits": spec.limits.model_copy(update={"budget_usd": budget or spec.limits.budget_usd}),
        "finish_within_minutes": finish_within or spec.finish_within_minutes,
    }
    return replace(found, job=replace(found.job, spec=spec.model_copy(update=changes)))


@contextmanager
def _ledger_if_any() -> Generator[Ledger | None]:
    url = ledger_url(os.environ.get("ROWTIDE_LEDGER"), home())
    if not ledger_history.has_ledger(url):
        yield None
        return
    ledger = Ledger(url)
    try:
        yield ledger
    finally:
        ledger.close()


def _see(found: Plan, ledger: Ledger | None, limit: int | None, size: int) -> Seen:
    spec, job = found.job.spec, found.job
    history, pasts = None, Pasts()
    if ledger is not None:
        with ledger.view() as tx:
            history = ledger_history.history(tx, job.name, job.version, orjson.dumps(tiers_of(job)).decode())
            pasts = ledger_lanes.pasts(tx, job.name)
    rows, now = survey(found, os.environ, ledger, limit=limit, size=size), datetime.now(UTC)
    soon = spec.finish_within_minutes
    ahead = lanes.Ahead(
        rows=sum(rows.starts),
        has_after=spec.after is not None,
        asked=spec.lane,
        concurrency=spec.live.concurrency,
        left_usd=spec.limits.budget_usd,
        batch_share=float(found.models[len(spec.tiers) - 1].batch_share),
        finish_by=now + timedelta(minutes=soon) if soon else None,
    )
    choice = choose(ahead, pasts, now)
    counted_by = "the API" if os.environ.get("ANTHROPIC_API_KEY") else "the emulator"
    with claude_server():
        tokens = asyncio.run(_count(found, rows)) if rows.sample else []
    if not tokens:
        return Seen(found, rows, tokens, counted_by, history, choice, None)
    prospect = Prospect(
        models=found.models,
        rungs=len(spec.tiers),
        starts=rows.starts,
        sample_tokens=tokens,
        prefix_tokens=_prefix_tokens(found),
        has_tools=bool(spec.tools),
        lane=choice.lane,
        concurrency=spec.live.concurrency,
    )
    return Seen(
        found, rows, tokens, counted_by, history, choice, forecast(prospect, history, pasts, random.Random(SEED))
    )


def _tell(seen: Seen) -> None:
    out.print(in_a_sentence(seen), markup=False)
    for table in tables(seen):
        out.print()
        out.print(table)
    for each in warnings_of(seen):
        out.print(f"\nwarning: {each}", markup=False, style="yellow")


async def _count(found: Plan, rows: Survey) -> list[int]:
    async with ClaudeCredentials.from_environment().get_client() as claude:
        return await first_tokens(claude, found, rows.sample)


def _prefix_tokens(found: Plan) -> int:
    """What is too short to be cached costs its full price."""
    length = cacheable_tokens(found.request)
    return length if length >= max(model.cache_minimum_tokens for model in found.models) else 0


def in_a_sentence(seen: Seen) -> str:
    """The answer: lane, rows, money, time; and what it stands on."""
    name, rows, told = seen.plan.job.name, seen.rows, seen.forecast
    passed = [
        f"{count:,} {reason}" for reason, count in [*rows.refused.items(), ("unchanged", rows.unchanged)] if count
    ]
    of = f"of {rows.read:,} read ({', '.join(passed)})" if passed else "all that were read"
    if told is None:
        return f"{name}: nothing to ask, {of}."
    return (
        f"{name}: {sum(rows.starts):,} rows to ask, {of}, by lane {seen.choice.lane} ({seen.choice.why}): likely "
        f"{usd(told.likely_usd)}, {usd(told.low_usd)} to {usd(told.high_usd)} in nine runs of ten, and done within "
        f"{took(told.seconds)}.\n{_basis(seen)}"
    )


def _basis(seen: Seen) -> str:
    counted = f"{len(seen.tokens):,} rows' tokens were counted by {seen.counted_by}; turns, climbs and cache hits are"
    if seen.history is None or seen.forecast is None:
        return f"{counted} guesses, because no run of this job was seen."
    runs = "1 run" if seen.history.runs == 1 else f"{seen.history.runs} runs"
    version = "as it is now" if seen.history.is_of_this_version else "as it was before it was changed"
    return f"{counted} those of {seen.history.rows:,} rows in {runs} of this job {version}."


def tables(seen: Seen) -> list[Table]:
    """Rung by rung, and the other ways."""
    if seen.forecast is None:
        return []
    rungs = _table("rung", "rows", "turns a row", "climb on", "input tokens", "output tokens", "cost", "seen before")
    for each in seen.forecast.rungs:
        rungs.add_row(
            each.tier,
            f"{each.rows:,.0f}",
            f"{each.turns:.2f}",
            f"{each.climbs:.1%}",
            f"{each.input_tokens:,.0f}",
            f"{each.output_tokens:,.0f}",
            usd(each.usd),
            f"{each.seen:,} rows" if each.seen else "no",
        )
    ways = _table("the same work", "cost", "with nothing cached", "time")
    for way in seen.forecast.ways:
        name = f"{way.name} (this run)" if way.is_this else way.name
        ways.add_row(name, usd(way.usd), usd(way.uncached_usd), took(way.seconds))
    return [rungs, ways]


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for each in others:
        table.add_column(each, justify="right")
    return table


def warnings_of(seen: Seen) -> list[str]:
    """What speaks against running it just so."""
    spec, told = seen.plan.job.spec, seen.forecast
    found = list(seen.plan.warnings)
    if told is None:
        return found
    if seen.history is None:
        cost = usd(told.likely_usd * min(1, HISTORY_ROWS / sum(seen.rows.starts)))
        found.append(
            f"no history: `rowtide run {seen.plan.job.name} --limit {HISTORY_ROWS}` makes some, for about {cost}"
        )
    if (budget := spec.limits.budget_usd) is not None and budget < told.high_usd:
        is_short = "less than the likely cost" if budget < told.likely_usd else "within the range: it may not suffice"
        found.append(f"limits.budget_usd is {usd(budget)}, {is_short}")
    if (minutes := spec.finish_within_minutes) is not None and told.seconds > minutes * 60:
        found.append(f"finish_within_minutes is {minutes:g}, and this would likely take up to {took(told.seconds)}")
    if seen.choice.lane == "sequential" and seen.history is None:
        found.append("the earlier rows that each row of the sequential lane sees are not counted")
    return found


def as_json(seen: Seen, warnings: Sequence[str]) -> dict[str, Any]:
    """The same for programs."""
    rows, history = seen.rows, seen.history
    return {
        "job": seen.plan.job.name,
        "lane": seen.choice.lane,
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

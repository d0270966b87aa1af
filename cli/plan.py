"""`rowtide plan JOB`."""

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cli import say
from cli.environment_checks import check_home
from cli.existing_ledger import ledger_mistakes, opened
from cli.home_folders import home, is_rehearsal, rehearse_without_key
from cli.numbers import Amount, Count
from cli.prefect_server import server_url
from cli.pump import Trust, claude_server, planned
from cli.say import grid, out, say_json
from configuration.claude_settings import ClaudeSettings
from rowtide.job.job_folder import find_job
from rowtide.lanes.lane_table import AskedLane
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.ledger.read import past_runs as ledger_past_runs
from rowtide.stages.forecast.build_forecast import Seen, as_asked, build_forecast
from rowtide.stages.forecast.forecast_text import Grid, as_json, in_a_sentence, tables, warnings_of
from rowtide.stages.preflight import Plan


def plan_(
    job: str,
    *,
    source: Path | None = None,
    limit: Count | None = None,
    sample: Count = 50,
    lane: AskedLane = "auto",
    budget: Amount | None = None,
    finish_within: Amount | None = None,
    trust: Trust = False,
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
    rehearse_without_key()
    check_home(home())
    server_url()  # one that is named and does not answer would be waited for
    found = planned(find_job(job, jobs=Path("jobs")), source, trust=trust)  # mistakes come before servers
    seen = _see(as_asked(found, lane, budget, finish_within), limit, sample)
    if json:
        say_json(as_json(seen, warnings_of(seen)))
    else:
        _tell(seen)
    return 0


def _see(found: Plan, limit: int | None, sample: int) -> Seen:
    counted_by = "the emulator" if is_rehearsal() else "the API"

    async def see() -> Seen:
        with _ledger_if_any() as ledger:
            async with ClaudeSettings.from_environment().get_client() as claude:
                asked: dict[str, Any] = {"limit": limit, "sample": sample, "counted_by": counted_by}
                return await build_forecast(found, ledger, claude, os.environ, **asked, now=datetime.now(UTC))

    with claude_server():
        return asyncio.run(see())


@contextmanager
def _ledger_if_any() -> Generator[Ledger | None]:
    url = ledger_url(os.environ.get("ROWTIDE_LEDGER"), home())
    with ledger_mistakes():
        is_there = ledger_past_runs.has_ledger(url)
    if not is_there:
        yield None
        return
    ledger = opened(url)
    try:
        yield ledger
    finally:
        ledger.close()


def _tell(seen: Seen) -> None:
    out.lines(in_a_sentence(seen))
    for table in tables(seen):
        out.print()
        out.print(_drawn(table))
    for each in seen.plan.shape.notes:
        out.lines(["", f"source: {each}"])
    for each in warnings_of(seen):
        out.print()
        out.print(f"warning: {each}", style="yellow")


def _drawn(numbers: Grid) -> say.Grid:
    table = grid(numbers.heads[0], numbers=numbers.heads[1:])
    for line in numbers.lines:
        table.add_row(*line)
    return table

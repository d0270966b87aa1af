"""`rowtide plan JOB`: forecast a run before it is paid for."""

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli import output
from cli.environment_checks import check_home
from cli.home_folders import home_folder, is_in_rehearsal, rehearse_without_key
from cli.numbers import Amount, Count
from cli.open_ledger import ledger_errors_as_mistakes, open_or_create_ledger
from cli.output import out, plain_table, print_json
from cli.prefect_server import find_server_url
from cli.shared_arguments import JobName
from cli.terminal_run import Trust, checked_plan, claude_or_emulator
from configuration.claude_settings import ClaudeSettings
from rowtide.job.job_folder import find_job
from rowtide.lanes.lane_table import AskedLane
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.ledger.read import past_runs as ledger_past_runs
from rowtide.stages.forecast.build_forecast import ForecastInputs, build_forecast, plan_with_options
from rowtide.stages.forecast.forecast_text import (
    ForecastTable,
    forecast_as_json,
    forecast_sentence,
    forecast_tables,
    forecast_warnings,
)
from rowtide.stages.preflight import Plan


def plan_(
    job: JobName,
    *,
    source: Path | None = None,
    limit: Count | None = None,
    sample: Count = 50,
    lane: AskedLane = "auto",
    budget: Amount | None = None,
    finish_within: Amount | None = None,
    trust: Trust = False,
    json: bool = False,
) -> int:
    """Say what a run would likely take and cost, before it is paid for. Nothing is asked and nothing is written.

    Parameters
    ----------
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
    check_home(home_folder())
    find_server_url()  # one that is named and does not answer would be waited for
    found = checked_plan(find_job(job, jobs=Path("jobs")), source, trust=trust)  # mistakes come before servers
    seen = _see(plan_with_options(found, lane, budget, finish_within), limit, sample)
    if json:
        print_json(forecast_as_json(seen, forecast_warnings(seen)))
    else:
        _print_forecast(seen)
    return 0


def _see(found: Plan, limit: int | None, sample: int) -> ForecastInputs:
    counted_by = "the emulator" if is_in_rehearsal() else "the API"

    async def see() -> ForecastInputs:
        with _ledger_if_any() as ledger:
            async with ClaudeSettings.from_environment().get_client() as claude:
                asked: dict[str, Any] = {"limit": limit, "sample": sample, "counted_by": counted_by}
                return await build_forecast(found, ledger, claude, os.environ, **asked, now=datetime.now(UTC))

    with claude_or_emulator():
        return asyncio.run(see())


@contextmanager
def _ledger_if_any() -> Generator[Ledger | None]:
    url = ledger_url(os.environ.get("ROWTIDE_LEDGER"), home_folder())
    with ledger_errors_as_mistakes():
        is_there = ledger_past_runs.has_ledger(url)
    if not is_there:
        yield None
        return
    ledger = open_or_create_ledger(url)
    try:
        yield ledger
    finally:
        ledger.close()


def _print_forecast(seen: ForecastInputs) -> None:
    out.lines(forecast_sentence(seen))
    for table in forecast_tables(seen):
        out.print()
        out.print(_drawn(table))
    for each in seen.plan.shape.notes:
        out.lines(["", f"source: {each}"])
    for each in forecast_warnings(seen):
        out.print()
        out.print(f"warning: {each}", style="yellow")


def _drawn(numbers: ForecastTable) -> output.PlainTable:
    table = plain_table(numbers.heads[0], numbers=numbers.heads[1:])
    for line in numbers.lines:
        table.add_row(*line)
    return table

"""Reports a run: a summary in counts and money, and a page."""

import asyncio
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from orchestration.emit_stop import emit_stop
from orchestration.publish_progress import publish_progress
from orchestration.publish_report import publish_report
from rowtide import clock
from rowtide.errors import UserMistake
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import loads as ledger_loads
from rowtide.ledger import quarantine as ledger_quarantine
from rowtide.ledger.read.run_figures import read_run_figures
from rowtide.observing.event_log import logger
from rowtide.report.run_summary import run_summary
from rowtide.report.stop_text import stop_error
from rowtide.report.summary_text import with_min_loaded
from rowtide.stages.report.closing_summary import answers_in_short, quarantine_in_short
from tasks.watch_objectives import watch_objectives

DRAWING_SECONDS = 900.0  # a million rows take about fifteen, ten million ten times as long

log = logger(__name__)


@durable
async def report(run_id: str) -> dict[str, Any]:
    """Finish the run and write its summary and page to disk and where the orchestrator shows them. Returns the summary.

    Raises RunStopped or StoppedByWorld for a run that stopped with rows left: it can be resumed.
    """
    database = await LedgerSettings.in_force()
    async with database.get_run_alone(run_id) as context:
        now = clock.now()
        with context.ledger.page() as tx:
            ledger_loads.remember_unverified(tx, context.run)
            if not context.run.stopped:
                ledgers.finish_run(tx, context.run, now=now)
        with context.ledger.view() as tx:
            figures = read_run_figures(tx, ledgers.find_run(tx, run_id), now=now, catalogue=context.catalogue)
            examples = {each.reason: each.row_key for each in ledger_quarantine.reason_groups(tx, context.run)}
        found = {**run_summary(figures), **answers_in_short(context), **quarantine_in_short(context)}
        found = with_min_loaded(found, context.job.spec.limits.min_loaded)
        folder = context.home / "reports"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{run_id}.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        emit_stop(context)
        await publish_progress(context)
    if os.environ.get("ROWTIDE_PAGE") != "0":
        await _draw(database, run_id, folder / f"{run_id}.html", now)
    await publish_report(found, examples, database.home, is_elsewhere=database.url is not None)
    if not context.job.spec.slo.is_empty:
        await watch_objectives([str(context.job.folder)])
    if found["stopped"]:
        raise stop_error(found)
    return found


async def _draw(database: LedgerSettings, run_id: str, file: Path, now: datetime) -> None:
    """Draw the page in a process of its own: if that crashes, hangs or fails, the run is finished all the same."""
    url = ledgers.ledger_url(database.url, database.home)
    command = [sys.executable, "-m", "rowtide.stages.report.draw_report"]
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=nothing, stderr=pipe)
    orders = {"ledger_url": url, "run_id": run_id, "file": str(file), "now": now}
    try:
        async with asyncio.timeout(DRAWING_SECONDS):
            _, error_output = await process.communicate(orjson.dumps(orders))
    except TimeoutError:
        process.kill()
        await process.wait()
        error_output = f"nothing in {DRAWING_SECONDS:.0f} s".encode()
    if process.returncode != 0:
        last = (
            error_output.decode(errors="replace").strip().rpartition("\n")[2].rpartition(f"{UserMistake.__name__}: ")[2]
        )
        log.warning("the page of run %s could not be drawn: %s; all else is done", run_id, last)

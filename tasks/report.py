"""Reports a run: a summary in counts and money, and a page."""

import os
from typing import Any

import orjson

from configuration.ledger_settings import LedgerSettings
from orchestration.draw_page import draw_page
from orchestration.durable import durable
from orchestration.emit_stop import emit_stop
from orchestration.publish_progress import publish_progress
from orchestration.publish_report import publish_report
from rowtide import clock
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import loads as ledger_loads
from rowtide.ledger import quarantine as ledger_quarantine
from rowtide.ledger.read.run_figures import read_run_figures
from rowtide.report.run_summary import run_summary
from rowtide.report.stop_text import stop_error
from rowtide.report.summary_text import with_min_loaded
from rowtide.stages.report.closing_summary import answers_in_short, quarantine_in_short
from tasks.watch_objectives import watch_objectives


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
        await draw_page("draw_report", database, folder / f"{run_id}.html", now, run_id=run_id)
    await publish_report(found, examples, database.home, is_elsewhere=database.url is not None)
    if not context.job.spec.slo.is_empty:
        await watch_objectives([str(context.job.folder)])
    if found["stopped"]:
        raise stop_error(found)
    return found

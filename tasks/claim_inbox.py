"""Begins a run over the rows that wait in the inbox."""

import os
from datetime import timedelta
from pathlib import Path

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.environment_numbers import number_from_environment
from rowtide.intake.sources import INBOX
from rowtide.job.job_folder import find_job
from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import purge_text as ledger_purge_text
from rowtide.ledger.ledger import Ledger
from rowtide.stages.extract.begin_run import InboxEmpty, RunOptions, begin_new_run
from rowtide.stages.orchestrator import current_orchestrator

INBOX_DAYS = 30
PLAIN_RUN_ID = 12  # last digits of a flow run's id; the first are the time


@durable
async def claim_inbox(job: str | None, at_least: int, older_than_seconds: float | None) -> tuple[str, str] | None:
    """Begin a run over the job's waiting rows, or those of the job that has waited longest. Returns (folder, run_id).

    Returns None when too little waits. The same flow run, started again, finds the run it began.
    """
    database = await LedgerSettings.in_force()
    with database.get_ledger() as ledger:
        run_id = f"inbox-{str(current_orchestrator().flow_run_id)[-PLAIN_RUN_ID:]}"
        with ledger.view() as tx:
            if ledgers.has_run(tx, run_id):
                return ledgers.find_run(tx, run_id).job_folder, run_id
        with ledger.page() as tx:
            ledger_purge_text.prune_messages(tx, before=clock.now() - _kept_for())
        folder = _due(ledger, job, at_least, older_than_seconds)
        if folder is None:
            await current_orchestrator().name("inbox: too little waits")
            return None
        found = await database.get_plan(folder, INBOX)
        try:
            begin_new_run(ledger, found, _asked(run_id, at_least), now=clock.now())
        except InboxEmpty:  # another flush has taken it meanwhile
            return None
        return str(folder), run_id


def _kept_for() -> timedelta:
    """Return how long to keep the text of messages that runs have read: ROWTIDE_INBOX_DAYS."""
    return timedelta(days=number_from_environment(os.environ, "ROWTIDE_INBOX_DAYS", INBOX_DAYS, least=0, most=36_500))


def _due(ledger: Ledger, job: str | None, at_least: int, older_than_seconds: float | None) -> Path | None:
    """Return the folder of the job whose rows are due, or None."""
    asked = find_job(job, jobs=Path("jobs")) if job else None
    now = clock.now()
    with ledger.view() as tx:
        for waiting in ledger_inbox.waiting_rows(tx):
            if (asked is None or asked.name == waiting.job) and waiting.is_due(at_least, older_than_seconds, now):
                return asked or find_job(waiting.job, jobs=Path("jobs"))
    return None


def _asked(run_id: str, at_least: int) -> RunOptions:
    return RunOptions(
        run_id,
        current_orchestrator().flow_run_id,
        source=INBOX,
        row_limit=None,
        lane="auto",
        budget_usd=None,
        finish_within_minutes=None,
        at_least=max(1, at_least),
    )

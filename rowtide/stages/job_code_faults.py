"""Stops a run when the job's own code fails alike on most of its first rows; the rows are then as they were."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Literal

from rowtide.agent.states import RunStop
from rowtide.errors import StoppedByJob
from rowtide.job.job_code import MOST, JobCodeFailure, is_job_wide_fault, most_frequent_failure
from rowtide.ledger import job_code_failures as ledger_job_code_failures
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import tiers as ledger_tiers
from rowtide.stages.run_context import RunContext

Tried = Literal["prompt", "rubric", "answer"]


def check_job_wide_fault(
    context: RunContext, what: Tried, failures: Collection[JobCodeFailure], tried: int, *, now: datetime
) -> None:
    """Raise StoppedByJob when most of the run's first rows fail alike in the job's own code: then the job is at fault.

    `failures` are those among this page's `tried` rows, before any of them has made its move. The run is then stopped
    in the ledger, and rows quarantined earlier for the same failure wait again.
    """
    found = most_frequent_failure(failures)
    if found is None or found[1] <= MOST * tried:
        return
    failure, failed = found
    with context.ledger.view() as tx:
        before = ledger_job_code_failures.count_tried(tx, context.run, what)
        if before >= ledger_job_code_failures.AS_MANY_AS_COUNT:
            return
        alike = ledger_job_code_failures.quarantined_by_job_code(tx, context.run, failure.reason, failure.where)
        untried = ledger_job_code_failures.count_untried(tx, context.run, what) - tried
    failed, tried = failed + len(alike), tried + before
    if is_job_wide_fault(failed, tried, are_all=untried <= 0):
        why = f"the job's own code fails alike on {failed:,} of the first {tried:,} rows: {failure.words}"
        _stop(context, what, failure, alike, why, now)
        raise StoppedByJob(why)


def _stop(
    context: RunContext,
    what: Tried,
    failure: JobCodeFailure,
    alike: list[ledger_job_code_failures.JobCodeQuarantine],
    why: str,
    now: datetime,
) -> None:
    with context.ledger.page() as tx:
        ledgers.stop_run(tx, context.run, RunStop.JOB_CODE, detail=why)
        move = "rejudge" if what == "answer" else "retry"
        ledger_job_code_failures.return_to_waiting(
            tx, context.run, move, alike, failure.reason, "most rows fail alike", now=now
        )
        if what == "answer":
            tiers = Counter(row.tier for row in alike)
            ledger_tiers.add_tier_visits(tx, context.run, quarantined={tier: -rows for tier, rows in tiers.items()})

"""Moves ready rows to the run's present version before they are asked."""

import orjson

from rowtide.ledger import job_versions as ledger_job_versions
from rowtide.ledger import prefixes as ledger_prefixes
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.ledger import take_advisory_lock
from rowtide.stages.run_context import SPOOL_PAGE, Clock, RunContext


def adopt_run_version(context: RunContext, *, clock: Clock) -> int:
    """Put every ready row on the run's present version, page by page. Returns how many were on another.

    It runs before anything is sent. If a process dies in between, the next one moves the rest. For a run that was never
    amended it does nothing.
    """
    moved = 0
    while context.run.version_no:
        with context.ledger.page() as tx:
            take_advisory_lock(tx, f"versions {context.run.run_no}")
            rows = ledger_job_versions.rows_on_other_versions(tx, context.run, limit=SPOOL_PAGE)
            if not rows:
                break
            afresh = [row_no for row_no, version_no in rows if version_no in context.earlier_versions]
            others = [row_no for row_no, version_no in rows if version_no not in context.earlier_versions]
            ledger_job_versions.move_to_version(tx, context.run, others)
            ledger_job_versions.restart_on_version(tx, context.run, afresh, now=clock())
            if afresh and context.job.spec.skills.group_by is not None:
                contents = ledger_turns.row_contents(tx, afresh)
                groups = {row_no: context.job.group_of(orjson.loads(content)) for row_no, content in contents.items()}
                ledger_prefixes.assign_prefixes(
                    tx, context.run, groups, skills_for=context.job.skills_for, instructions=context.job.instructions
                )
            moved += len(rows)
    return moved

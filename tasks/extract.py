"""Brings rows in, once."""

import os
from pathlib import Path

from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from orchestration.name_run import name_run
from rowtide import clock
from rowtide.intake.admission import admit_page, row_keys_of_page, with_unused_names
from rowtide.intake.source_rows import BadRow, SourceRow, key_fault
from rowtide.intake.sources import read_pages
from rowtide.job.job_folder import find_job
from rowtide.job.versions import check_job_unchanged
from rowtide.ledger import job_versions as ledger_job_versions
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import prefixes as ledger_prefixes
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.quarantine import Signature
from rowtide.stages.amend.recheck_answers import adopt_earlier_answers
from rowtide.stages.extract.begin_run import RunOptions, begin_new_run, continue_existing_run, run_begun_by_flow_run
from rowtide.stages.extract.inbox import claimed_inbox_pages
from rowtide.stages.orchestrator import current_orchestrator
from rowtide.stages.preflight import Plan
from rowtide.stages.run_context import SPOOL_PAGE
from rowtide.stages.validate.approval_checks import check_rows_gate


@durable
async def extract(
    job: str,
    source: str | None = None,
    run_id: str | None = None,
    limit: int | None = None,
    lane: str = "auto",
    budget: float | None = None,
    finish_within_minutes: float | None = None,
    tiers: list[str] | None = None,
    plan: Plan | None = None,
    eval_id: str | None = None,
) -> str:
    """Begin the run, or find it, and admit the source's rows from where it stopped. Returns the run's id.

    `budget` is in US dollars; an existing run can only be given more. A deadline counts from the run's beginning.
    `plan` is the checked job, if planned already; `eval_id` the eval whose arm it is, with no gate but that of answers.
    """
    database, api = await LedgerSettings.in_force(), (await ClaudeSettings.in_force()).api
    with database.get_ledger() as ledger:
        folder = find_job(job, jobs=Path("jobs"))
        now, worked_by = clock.now(), current_orchestrator().flow_run_id
        name = run_id or run_begun_by_flow_run(ledger, worked_by) or current_orchestrator().name_run(folder.name, now)
        run = continue_existing_run(ledger, name, api, budget, worked_by, now=now)
        if run is None or not run.extracted_at:
            found = plan or await database.get_plan(folder, run.source_path if run else source, tiers)
            asked = RunOptions(name, worked_by, source, limit, lane, budget, finish_within_minutes, eval_id=eval_id)
            run = run or begin_new_run(ledger, found, asked, now=now)
            check_job_unchanged(found.job.version, run, found.job.folder)
            await name_run(run)
            async with database.get_run_alone(
                name
            ) as context:  # the first of several workers admits the rows; the others wait
                if not context.run.extracted_at:
                    _admit_all(context.ledger, context.run, found)
            async with database.get_run_alone(name) as context:
                if not context.run.extracted_at:
                    if found.job.spec.gates.rows and not eval_id:
                        check_rows_gate(context, clock=lambda: clock.now())
                    adopt_earlier_answers(context.ledger, context.run, context.job, Signature("rowtide", clock.now()))
                    with context.ledger.page() as tx:
                        ledgers.finish_extract(tx, context.run, now=clock.now())
        else:
            await name_run(run)
        return run.run_id


def _admit_all(ledger: Ledger, run: Run, found: Plan) -> None:
    """Read the source from its start, skip admitted rows, and admit the rest page by page."""
    position = 0
    row_bytes = found.job.spec.limits.row_bytes
    pages = read_pages(found.source, found.job.folder, SPOOL_PAGE, os.environ, row_bytes)
    if found.source.inbox is not None:
        pages = claimed_inbox_pages(ledger, run, SPOOL_PAGE)
    for page in pages:
        page = page[: max(0, (run.row_limit or position + len(page)) - position)]
        if position + len(page) > run.read_rows:
            _admit(ledger, run, found, page, position)
        position += len(page)
        if not page:
            break


def _admit(ledger: Ledger, run: Run, found: Plan, page: list[SourceRow | BadRow], position: int) -> None:
    spec = found.job.spec
    keys = row_keys_of_page(page, spec.key_columns)
    first, after = run.first_row_no + position + 1, position + len(page)
    with ledger.page() as tx:
        present = ledger_rows.keys_present(tx, run, [key for key in keys if key and not key_fault(key)])
        rows = admit_page(page, keys, present=present, first_row_no=first, row_bytes=spec.limits.row_bytes)
        if refused := [row.row_key for row in rows if row.reason]:
            rows = with_unused_names(rows, ledger_rows.keys_present(tx, run, refused))
        if ledger_rows.admit_rows(tx, run, rows, read_before=position, read_after=after, now=clock.now()):
            ledger_job_versions.mark_rows_settled_earlier(tx, run, first, first + len(page) - 1)
            if spec.skills.group_by is not None:
                read = [(row_no, row) for row_no, row in enumerate(page, first) if isinstance(row, SourceRow)]
                groups = {row_no: found.job.group_of(row.values) for row_no, row in read}
                ledger_prefixes.assign_prefixes(
                    tx, run, groups, skills_for=found.job.skills_for, instructions=found.job.instructions
                )

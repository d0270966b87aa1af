"""Rows in, once."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.runtime import flow_run

from blocks.ledger_database import LedgerDatabase
from rowtide import ledger as ledgers
from rowtide import ledger_prefixes, ledger_rows
from rowtide.admission import admissions, keys_of
from rowtide.job_folder import find_job
from rowtide.ledger import Ledger, Run
from rowtide.pricing import MICRO
from rowtide.rows import BadRow, SourceRow
from rowtide.sources import read_pages
from rowtide.work import SPOOL_PAGE, Plan, check_unchanged, plan
from tasks.durable import durable


@durable
async def extract(
    job: str,
    source: str | None = None,
    run_id: str | None = None,
    limit: int | None = None,
    lane: str = "auto",
    budget: float | None = None,
) -> str:
    """Begin the run, or find it, and admit the source's rows from where it stopped. Returns the run's id.

    `budget` is in US dollars; a run that is found can only be given more.
    """
    with LedgerDatabase.from_environment().get_ledger() as ledger:
        folder = find_job(job, jobs=Path("jobs"))
        name = run_id or f"{folder.name}-{flow_run.name}-{str(flow_run.id)[:8]}"
        run = _go_on(ledger, name, budget)
        if run is None or not run.extracted_at:
            found = await plan(folder, run.source_path if run else source, os.environ)
            run = run or _begin(ledger, found, name, source, row_limit=limit, lane=lane, budget=budget)
            check_unchanged(found.job, run)
            _admit_all(ledger, run, found)
        return run.run_id


def _go_on(ledger: Ledger, run_id: str, budget: float | None) -> Run | None:
    """The run, if there is one. Whatever stopped it before, it goes on now; with more money, if it is given any."""
    with ledger.page() as tx:
        if not ledgers.has_run(tx, run_id):
            return None
        ledgers.go_on(tx, run_id, None if budget is None else round(budget * MICRO))
        return ledgers.find_run(tx, run_id)


def _begin(ledger: Ledger, found: Plan, run_id: str, source: str | None, *, budget: float | None, **asked: Any) -> Run:
    wall = found.job.spec.limits.budget_usd if budget is None else budget
    values = {
        **asked,
        **found.record,
        "run_id": run_id,
        "source_path": str(Path(source).resolve()) if source else None,
        "budget_micro": None if wall is None else round(wall * MICRO),
    }
    with ledger.page() as tx:
        run = ledgers.begin_run(tx, values, now=datetime.now(UTC))
        ledger_prefixes.begin(tx, run, found.skills)
        return run


def _admit_all(ledger: Ledger, run: Run, found: Plan) -> None:
    """Read the source from its start, pass over what was admitted, and admit the rest page by page."""
    position = 0
    for page in read_pages(found.source, found.job.folder, SPOOL_PAGE, os.environ):
        page = page[: max(0, (run.row_limit or position + len(page)) - position)]
        if position + len(page) > run.read_rows:
            _admit(ledger, run, found, page, position)
        position += len(page)
        if not page:
            break
    with ledger.page() as tx:
        ledgers.finish_extract(tx, run, now=datetime.now(UTC))


def _admit(ledger: Ledger, run: Run, found: Plan, page: list[SourceRow | BadRow], position: int) -> None:
    spec = found.job.spec
    keys = keys_of(page, spec.key_columns)
    first, after = run.first_row_no + position + 1, position + len(page)
    with ledger.page() as tx:
        present = ledger_rows.keys_present(tx, run, [key for key in keys if key is not None])
        rows = admissions(page, keys, present=present, first_row_no=first, row_bytes=spec.limits.row_bytes)
        if ledger_rows.admit(tx, run, rows, read_before=position, read_after=after, now=datetime.now(UTC)):
            ledger_rows.leave_unchanged(tx, run, first, first + len(page) - 1)
            if spec.skills.group_by is not None:
                read = [(row_no, row) for row_no, row in enumerate(page, first) if isinstance(row, SourceRow)]
                groups = {row_no: found.job.group_of(row.values) for row_no, row in read}
                ledger_prefixes.assign(tx, run, found.job, groups)

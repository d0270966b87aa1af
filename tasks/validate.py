"""The answers gate."""

from datetime import UTC, datetime

import orjson
import pandas as pd

from blocks.ledger_database import LedgerDatabase
from rowtide import ledger_rows, ledger_turns
from rowtide.agent import RowAt, after_gate
from rowtide.gates import Suite, judge
from rowtide.ledger_rows import Remark
from rowtide.states import RowState
from rowtide.work import Work, fields_of, load_gate
from tasks.durable import durable

PAGE_ROWS = 10_000


@durable
async def validate(run_id: str) -> dict[str, int]:
    """Judge every answered row, page by page: accepted, or set aside. Returns how many of each."""
    accepted = refused = after = 0
    async with LedgerDatabase.from_environment().get_work(run_id) as work:
        suite = load_gate(work.job)
        while page := _page(work, after):
            after = page[-1].row_no
            failures = _failures(work, suite, page) if suite else {}
            remarks = [_remark(work, row, failures[row.row_no]) for row in page if row.row_no in failures]
            with work.ledger.page() as tx:
                ledger_rows.accept(tx, [row.row_no for row in page if row.row_no not in failures])
                ledger_rows.quarantine(tx, remarks, now=datetime.now(UTC))
            accepted, refused = accepted + len(page) - len(remarks), refused + len(remarks)
    return {"accepted": accepted, "refused": refused}


def _page(work: Work, after: int) -> list[RowAt]:
    with work.ledger.view() as tx:
        return ledger_rows.page_of(tx, work.run, RowState.ANSWERED, after=after, limit=PAGE_ROWS)


def _failures(work: Work, suite: Suite, page: list[RowAt]) -> dict[int, list[str]]:
    with work.ledger.view() as tx:
        answers = ledger_turns.answers(tx, [row.row_no for row in page])
    records = [{"row_no": row.row_no, **orjson.loads(answers[row.row_no])} for row in page]
    return judge(suite, pd.DataFrame.from_records(records, columns=["row_no", *fields_of(work.job.answer)])).failures


def _remark(work: Work, row: RowAt, failures: list[str]) -> Remark:
    move = after_gate(work.job.spec, row, failures)
    return Remark(row.row_no, row.turn, move.reason, move.detail)

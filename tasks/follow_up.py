"""What each reply asks for: tools, a correction, a second look, the next tier; or it is an answer."""

from collections.abc import Sequence
from datetime import UTC, datetime

from blocks.ledger_database import LedgerDatabase
from rowtide import ledger_calls, ledger_rows, ledger_turns
from rowtide.agent import Answer, CallTools, Check, Correct, Escalate, GiveUp, Lengthen, Move, RowAt
from rowtide.calling import Heard, call_tools
from rowtide.following import decide
from rowtide.ledger_rows import Remark
from rowtide.work import Work, tool_pool
from tasks.durable import durable

PAGE_ROWS = 1000  # a kill repeats at most the read-only calls of one page


@durable
async def follow_up(run_id: str) -> int:
    """Take every replied row one move further, page by page. Returns how many moved."""
    moved = after = 0
    async with (
        LedgerDatabase.from_environment().get_work(run_id) as work,
        tool_pool(work.job, work.environment, work.servers) as pool,
    ):
        while True:
            page, by_the_api = decide(work, after=after, limit=PAGE_ROWS)
            if not page:
                return moved
            heard = await call_tools(work, pool, page, clock=_now)
            heard.records += by_the_api
            _apply(work, page, heard, now=_now())
            after = page[-1][0].row_no
            moved += len(page)


def _apply(work: Work, page: Sequence[tuple[RowAt, Move]], heard: Heard, *, now: datetime) -> None:
    """Commit a page: the tools' outcomes first, then every row's move."""
    waiting = {remark.row_no for remark in heard.waiting}
    calls = {row.row_no: len(move.calls) for row, move in page if isinstance(move, CallTools)}

    def remarks(kind: type[Correct | Lengthen | Escalate | GiveUp]) -> list[Remark]:
        return [_remark(row, move) for row, move in page if isinstance(move, kind)]

    with work.ledger.page() as tx:
        ledger_turns.record_tools(tx, heard.records)
        ledger_calls.remember(tx, work.run, heard.outputs)
        ledger_rows.hold(tx, heard.waiting, now=now)
        ledger_rows.go_on(tx, {row_no: count for row_no, count in calls.items() if row_no not in waiting})
        ledger_rows.check(tx, {row.row_no: move.content for row, move in page if isinstance(move, Check)})
        ledger_rows.answer(tx, {row.row_no: move.content for row, move in page if isinstance(move, Answer)})
        ledger_rows.correct(tx, remarks(Correct), now=now)
        ledger_rows.lengthen(tx, remarks(Lengthen), now=now)
        ledger_rows.escalate(tx, remarks(Escalate), now=now)
        ledger_rows.quarantine(tx, remarks(GiveUp), now=now)


def _remark(row: RowAt, move: Move) -> Remark:
    """Why a row makes its move; what a second look found is told after the answer it looked at."""
    assert isinstance(move, Correct | Lengthen | Escalate | GiveUp)
    words = move.told if isinstance(move, Correct) else move.detail
    return Remark(row.row_no, row.turn - row.checking, move.reason, words)


def _now() -> datetime:
    return datetime.now(UTC)

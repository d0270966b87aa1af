"""What each reply asks for: tools, a correction, the next tier; or it is an answer."""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from blocks.ledger_database import LedgerDatabase
from rowtide import ledger_rows, ledger_turns
from rowtide.agent import Answer, CallTools, Correct, Escalate, GiveUp, Lengthen, Move, RowAt, ToolUse
from rowtide.following import decide
from rowtide.ledger_rows import Remark
from rowtide.ledger_turns import ToolRecord
from rowtide.tools import ToolPool
from rowtide.work import Work, tool_pool
from tasks.durable import durable

PAGE_ROWS = 1000  # a kill repeats at most the read-only calls of one page


@durable
async def follow_up(run_id: str) -> int:
    """Take every replied row one move further, page by page. Returns how many moved."""
    moved = after = 0
    async with LedgerDatabase.from_environment().get_work(run_id) as work, tool_pool(work.job, os.environ) as pool:
        while page := decide(work, after=after, limit=PAGE_ROWS):
            records = await _call_all(pool, page)
            _apply(work, page, records, now=datetime.now(UTC))
            after = page[-1][0].row_no
            moved += len(page)
    return moved


async def _call_all(pool: ToolPool, page: Sequence[tuple[RowAt, Move]]) -> list[ToolRecord]:
    """Run the tool calls of a page; the pool bounds how many are on the wire at once."""
    calls = [
        _call(pool, row, position, call)
        for row, move in page
        if isinstance(move, CallTools)
        for position, call in enumerate(move.calls)
    ]
    return list(await asyncio.gather(*calls))


async def _call(pool: ToolPool, row: RowAt, position: int, call: ToolUse) -> ToolRecord:
    outcome = await pool.call(call.tool, call.arguments)
    return ToolRecord(
        row_no=row.row_no,
        turn=row.turn,
        position=position,
        call_id=call.call_id,
        tool=outcome.tool,
        arguments=orjson.dumps(call.arguments),
        output=outcome.text,
        is_error=int(outcome.is_error),
        milliseconds=round(outcome.seconds * 1000),
    )


def _apply(work: Work, page: Sequence[tuple[RowAt, Move]], records: Sequence[ToolRecord], *, now: datetime) -> None:
    """Commit a page: the tools' outcomes first, then every row's move."""

    def remarks(kind: type[Correct | Lengthen | Escalate | GiveUp]) -> list[Remark]:
        return [
            Remark(row.row_no, row.turn, move.reason, move.told if isinstance(move, Correct) else move.detail)
            for row, move in page
            if isinstance(move, kind) and not isinstance(move, CallTools | Answer)
        ]

    with work.ledger.page() as tx:
        ledger_turns.record_tools(tx, records)
        ledger_rows.go_on(tx, {row.row_no: len(move.calls) for row, move in page if isinstance(move, CallTools)})
        ledger_rows.answer(tx, {row.row_no: move.content for row, move in page if isinstance(move, Answer)})
        ledger_rows.correct(tx, remarks(Correct), now=now)
        ledger_rows.lengthen(tx, remarks(Lengthen), now=now)
        ledger_rows.escalate(tx, remarks(Escalate), now=now)
        ledger_rows.quarantine(tx, remarks(GiveUp), now=now)

"""Reading a page of replies and deciding what each row does next."""

from functools import cache, partial

import orjson

from rowtide import ledger_turns
from rowtide.agent import Move, RowAt, next_move
from rowtide.checks import judge
from rowtide.work import Work


def decide(work: Work, *, after: int, limit: int) -> list[tuple[RowAt, Move]]:
    """The next replied rows, each with its move."""
    with work.ledger.view() as tx:
        page = ledger_turns.replied_page(tx, work.run, after=after, limit=limit)
        rows = [row for row, *_ in page]
        contents = ledger_turns.contents(tx, [row.row_no for row in rows]) if work.job.checks else {}
        outputs = ledger_turns.tool_outputs(tx, rows) if work.job.spec.checks.grounding else {}

    def row_values(row_no: int) -> dict[str, object]:
        return orjson.loads(contents[row_no])

    def said(row_no: int) -> list[tuple[str, str]]:
        return [(record.tool, record.output) for record in outputs.get(row_no, []) if not record.is_error]

    moves: list[tuple[RowAt, Move]] = []
    for row, stop_reason, content in page:
        judged = partial(
            judge,
            answer=work.job.answer,
            checks=work.job.checks,
            grounding=work.job.spec.checks.grounding,
            row=cache(partial(row_values, row.row_no)),
            outputs=partial(said, row.row_no),
        )
        moves.append((row, next_move(work.job.spec, row, stop_reason, orjson.loads(content), judged)))
    return moves

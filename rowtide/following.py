"""Reading a page of replies and deciding what each row does next."""

from collections import Counter, defaultdict
from functools import cache, partial

import orjson

from rowtide import ledger_turns
from rowtide.agent import Blocks, Move, RowAt, ToolUse, after_check, next_move, text_of
from rowtide.checks import judge
from rowtide.connector import calls_in
from rowtide.ledger_turns import ToolRecord
from rowtide.self_check import verdict_of
from rowtide.tool_rules import BETWEEN
from rowtide.work import Work

FIRST_BY_THE_API = 1000

Made = dict[int, Counter[tuple[str, bytes]]]


def decide(work: Work, *, after: int, limit: int) -> tuple[list[tuple[RowAt, Move]], list[ToolRecord]]:
    """The next replied rows, each with its move; and the calls that the API made for them itself."""
    spec = work.job.spec
    with work.ledger.view() as tx:
        page = ledger_turns.replied_page(tx, work.run, after=after, limit=limit)
        rows = [row for row, *_ in page]
        contents = ledger_turns.contents(tx, [row.row_no for row in rows]) if work.job.checks else {}
        looping = [row for row in rows if row.tool_calls >= spec.limits.repeats]
        outputs = ledger_turns.tool_outputs(tx, rows if spec.checks.grounding else looping)
        answers = ledger_turns.answers(tx, [row.row_no for row in rows if row.checking])
    made, by_the_api = _times_made(outputs), list[ToolRecord]()

    def row_values(row_no: int) -> dict[str, object]:
        return orjson.loads(contents[row_no])

    def said(row_no: int) -> list[tuple[str, str]]:
        return [(record.tool, record.output) for record in outputs.get(row_no, []) if not record.is_error]

    moves: list[tuple[RowAt, Move]] = []
    for row, stop_reason, content in page:
        blocks = orjson.loads(content)
        if own := _made_by_the_api(row, blocks):
            by_the_api += own
            outputs[row.row_no] = [*outputs.get(row.row_no, []), *own]
        if row.checking:
            moves.append((row, after_check(spec, row, verdict_of(text_of(blocks), answers[row.row_no]))))
            continue
        judged = partial(
            judge,
            answer=work.job.answer,
            checks=work.job.checks,
            grounding=spec.checks.grounding,
            row=cache(partial(row_values, row.row_no)),
            outputs=partial(said, row.row_no),
        )
        moves.append((row, next_move(spec, row, stop_reason, blocks, judged, partial(_times, made, row.row_no))))
    return moves, by_the_api


def _made_by_the_api(row: RowAt, blocks: Blocks) -> list[ToolRecord]:
    return [
        ToolRecord(
            row.row_no, row.turn, position, call.call_id, call.tool, call.arguments, call.output, call.is_error, 0
        )
        for position, call in enumerate(calls_in(blocks), FIRST_BY_THE_API)
    ]


def _times_made(outputs: dict[int, list[ToolRecord]]) -> Made:
    made: Made = defaultdict(Counter)
    for row_no, records in outputs.items():
        made[row_no].update((record.tool, record.arguments) for record in records)
    return made


def _times(made: Made, row_no: int, use: ToolUse) -> int:
    name = use.tool.replace(BETWEEN, ".", 1)
    return made[row_no][name, orjson.dumps(use.arguments, option=orjson.OPT_SORT_KEYS)] if row_no in made else 0

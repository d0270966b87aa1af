"""Reading a page of replies and deciding what each row does next."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import partial

import orjson

from rowtide.agent.agent import (
    Answer,
    Blocks,
    CallTools,
    Check,
    Correct,
    Escalate,
    ExtendMaxTokens,
    GiveUp,
    Move,
    Restart,
    RowAt,
    ToolUse,
    after_amend,
    after_check,
    next_move,
    text_of,
)
from rowtide.agent.checks import ToolOutput, judge
from rowtide.agent.policies import STOPS, Do, policy_of
from rowtide.agent.self_check import verdict_of
from rowtide.agent.states import RowState
from rowtide.job.job import JobSpec
from rowtide.job.wire_names import wire_name_of
from rowtide.json_bytes import compact_json, read_json
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import tiers as ledger_tiers
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.rows import MoveReason
from rowtide.ledger.turns import ToolRecord
from rowtide.stages.follow_up.tool_calls import Heard, call_tools
from rowtide.stages.job_code_faults import check_alike
from rowtide.stages.run_context import Clock, RunContext
from rowtide.stages.work_shares import shares
from rowtide.tools.connector import calls_in
from rowtide.tools.tools import ToolPool

PAGE_ROWS = 1000  # a kill repeats at most the read-only calls of one page
FIRST_BY_THE_API = 1000


async def follow(context: RunContext, pool: ToolPool, *, clock: Clock) -> int:
    """Take every replied row one move further, page by page of what this worker claims. Returns how many moved.

    Raises StoppedByJob, with the page as it was, when most of the run's first answers fail alike in the job's own code.
    """
    moved = 0
    for share in shares(context, RowState.REPLIED):
        after = share.first - 1
        while True:
            with context.ledger.view() as tx:
                replied = ledger_turns.replied_page(tx, context.run, after=after, last=share.last, limit=PAGE_ROWS)
            if not replied:
                break
            moves, by_the_api = decide(context, replied)
            _check_alike(context, replied, moves, now=clock())
            page = [(row, _under(context, row, move)) for row, move in moves]
            heard = await call_tools(context, pool, page, clock=clock)
            _apply(context, page, heard, by_the_api, now=clock())
            after = page[-1][0].row_no
            moved += len(page)
    return moved


def answers_among(context: RunContext, replied: Sequence[tuple[RowAt, str, bytes]]) -> dict[int, bytes]:
    """The replies that are answers and pass their rows' own checks (row_no → JSON): nothing has to follow but the gate.

    `replied` is as `decide` takes it; the rows may be as they were before. None where the job has checks in Python:
    they may take their time, and what was paid for is filed first; or where the API makes calls itself: they are filed
    with the move.
    """
    said = [each for each in replied if policy_of(STOPS, each[1]).do is Do.JUDGE and not each[0].checking]
    if not said or context.job.checks or context.betas:
        return {}
    moves, _ = decide(context, said)
    return {row.row_no: move.content for row, move in moves if isinstance(move, Answer)}


def decide(
    context: RunContext, page: Sequence[tuple[RowAt, str, bytes]]
) -> tuple[list[tuple[RowAt, Move]], list[ToolRecord]]:
    """Each row's move after a reply (row, stop_reason, content), whichever version asked; and the API's own calls."""
    spec = context.job.spec
    rows = [row for row, *_ in page]
    with context.ledger.view() as tx:
        contents = ledger_turns.contents(tx, [row.row_no for row in rows]) if context.job.checks else {}
        telling = [row for row, stop_reason, _ in page if _needs_outputs(spec, row, stop_reason)]
        outputs = ledger_turns.tool_outputs(tx, telling)
        quoted = ledger_turns.quotations(tx, rows) if spec.checks.grounding else {}
        answers = ledger_turns.answers(tx, [row.row_no for row in rows if row.checking])
    by_the_api: list[ToolRecord] = []
    judging = partial(judge, answer=context.job.answer, checks=context.job.checks, grounding=spec.checks.grounding)

    def row_values(row_no: int) -> dict[str, object]:
        return orjson.loads(contents[row_no])

    def said(row_no: int) -> list[ToolOutput]:
        told = [ToolOutput(each.tool, each.output) for each in quoted[row_no].outputs] if row_no in quoted else []
        return told + [ToolOutput(each.tool, each.output, bool(each.is_error)) for each in outputs.get(row_no, [])]

    moves: list[tuple[RowAt, Move]] = []
    calls_itself = bool(context.betas)
    for row, stop_reason, content in page:
        blocks = read_json(content)
        if own := _made_by_the_api(row, blocks) if calls_itself else []:
            by_the_api += own
            outputs[row.row_no] = [*outputs.get(row.row_no, []), *own]
        if row.checking:
            moves.append((row, after_check(spec, row, verdict_of(text_of(blocks), answers[row.row_no]))))
            continue
        judged = partial(judging, row=partial(row_values, row.row_no), outputs=partial(said, row.row_no))
        times_made = partial(_times_made, context.servers, outputs.get(row.row_no, ()))
        moves.append((row, next_move(spec, row, stop_reason, blocks, judged, times_made)))
    return moves, by_the_api


def _check_alike(
    context: RunContext,
    replied: Sequence[tuple[RowAt, str, bytes]],
    page: Sequence[tuple[RowAt, Move]],
    *,
    now: datetime,
) -> None:
    failures = [move.failure for _, move in page if isinstance(move, GiveUp) and move.failure]
    if failures:
        judged = sum(policy_of(STOPS, stop).do is Do.JUDGE and not row.checking for row, stop, _ in replied)
        check_alike(context, "answer", failures, judged, now=now)


def _under(context: RunContext, row: RowAt, move: Move) -> Move:
    return after_amend(context.job.spec, row, move) if row.version_no in context.earlier_versions else move


def _apply(
    context: RunContext,
    page: Sequence[tuple[RowAt, Move]],
    heard: Heard,
    by_the_api: Sequence[ToolRecord],
    *,
    now: datetime,
) -> None:
    """Commit a page: the tools' outcomes first, then every row's move."""
    waiting = {move_reason.row_no for move_reason in heard.waiting}
    calls = {row.row_no: len(move.calls) for row, move in page if isinstance(move, CallTools)}
    is_gated = context.job.is_gated

    def move_reasons(kind: type[Correct | ExtendMaxTokens | Restart | GiveUp]) -> list[MoveReason]:
        return [_move_reason(row, move) for row, move in page if isinstance(move, kind)]

    with context.ledger.page() as tx:
        ledger_turns.record_tools(tx, heard.records)
        ledger_turns.record_tools(tx, by_the_api, when_there="ON CONFLICT DO NOTHING")  # a reply may be judged again
        ledger_tool_calls.remember(tx, context.run, heard.outputs, asked_at=heard.asked_at)
        ledger_rows.hold(tx, heard.waiting, now=now)
        ledger_rows.go_on(tx, {row_no: count for row_no, count in calls.items() if row_no not in waiting})
        ledger_rows.check(tx, context.run, {row.row_no: move.content for row, move in page if isinstance(move, Check)})
        answered = [(row, move) for row, move in page if isinstance(move, Answer)]
        ledger_rows.answer(tx, context.run, {row.row_no: move.content for row, move in answered}, is_gated=is_gated)
        ledger_rows.correct(tx, move_reasons(Correct), now=now)
        ledger_rows.extend_max_tokens(tx, move_reasons(ExtendMaxTokens), now=now)
        ledger_rows.restart(tx, move_reasons(Restart), now=now)
        escalating = [(row, move) for row, move in page if isinstance(move, Escalate)]
        ledger_tiers.escalate(tx, context.run, context.job.spec, escalating, now=now)
        ledger_rows.quarantine(tx, move_reasons(GiveUp), now=now)
        accepted = Counter(row.tier for row, _ in answered if not is_gated)
        given_up = Counter(row.tier for row, move in page if isinstance(move, GiveUp))
        ledger_tiers.count_visits(tx, context.run, accepted=accepted, set_aside=given_up)


def _move_reason(row: RowAt, move: Move) -> MoveReason:
    """Why a row makes its move; what a self-check found is told after the answer it looked at."""
    assert isinstance(move, Correct | ExtendMaxTokens | Restart | GiveUp)
    words = move.told if isinstance(move, Correct) else move.detail
    return MoveReason(row.row_no, row.turn - row.checking, move.reason, words)


def _needs_outputs(spec: JobSpec, row: RowAt, stop_reason: str) -> bool:
    """Whether what the row's tools said decides its move: they may ground its answer, or it may call in circles."""
    match policy_of(STOPS, stop_reason).do:
        case Do.JUDGE:
            return bool(spec.checks.grounding)
        case Do.RUN_TOOLS:
            return row.tool_calls >= spec.limits.repeats
        case _:
            return False


def _made_by_the_api(row: RowAt, blocks: Blocks) -> list[ToolRecord]:
    return [
        ToolRecord(
            row.row_no, row.turn, position, call.call_id, call.tool, call.arguments, call.output, call.is_error, 0
        )
        for position, call in enumerate(calls_in(blocks), FIRST_BY_THE_API)
    ]


def _times_made(servers: Collection[str], records: Iterable[ToolRecord], use: ToolUse) -> int:
    """How often a row has made this very call."""
    arguments = compact_json(use.arguments, orjson.OPT_SORT_KEYS)
    return sum(record.arguments == arguments and wire_name_of(record.tool, servers) == use.tool for record in records)

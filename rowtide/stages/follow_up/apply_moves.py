"""Decides and applies each row's next move after its reply, a page at a time."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import partial

import orjson

from rowtide.agent.agent import (
    Accept,
    Blocks,
    CallTools,
    Correct,
    Escalate,
    ExtendMaxTokens,
    GiveUp,
    Move,
    Restart,
    RowAt,
    SelfCheck,
    ToolUse,
    after_amend,
    after_self_check,
    next_move,
    text_of,
)
from rowtide.agent.answer_checks import judge_answer
from rowtide.agent.grounding import ToolOutput
from rowtide.agent.outcome_policies import STOPS, Do, policy_of
from rowtide.agent.self_check import parse_self_check_reply
from rowtide.agent.states import RowState
from rowtide.job.job_spec import JobSpec
from rowtide.job.wire_names import wire_name_of_plain
from rowtide.json_bytes import dump_json, parse_json
from rowtide.ledger import recordings as ledger_recordings
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import tiers as ledger_tiers
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.rows import MoveReason
from rowtide.ledger.turns import ToolRecord
from rowtide.stages.follow_up.tool_calls import CallOutcomes, call_tools
from rowtide.stages.job_code_faults import check_job_wide_fault
from rowtide.stages.run_context import Clock, RunContext
from rowtide.stages.work_shares import claim_shares
from rowtide.tools.api_connector import connector_calls
from rowtide.tools.tools import ToolPool

PAGE_ROWS = 1000  # a kill repeats at most the read-only calls of one page
FIRST_BY_THE_API = 1000


async def follow_up_rows(context: RunContext, pool: ToolPool, *, clock: Clock) -> int:
    """Move every replied row one step on, page by page of the shares this worker claims. Returns how many moved.

    Raises StoppedByJob, with the page unchanged, when most of the run's first answers fail alike in the job's own code.
    """
    moved = 0
    for share in claim_shares(context, RowState.REPLIED):
        after = share.first - 1
        while True:
            with context.ledger.view() as tx:
                replied = ledger_turns.replied_page(tx, context.run, after=after, last=share.last, limit=PAGE_ROWS)
            if not replied:
                break
            moves, by_the_api = decide_moves(context, replied)
            _check_alike(context, replied, moves, now=clock())
            page = [(row, _under(context, row, move)) for row, move in moves]
            call_outcomes = await call_tools(context, pool, page, clock=clock)
            _apply(context, page, call_outcomes, by_the_api, now=clock())
            after = page[-1][0].row_no
            moved += len(page)
    return moved


def answers_ready_for_gate(context: RunContext, replied: Sequence[tuple[RowAt, str, bytes]]) -> dict[int, bytes]:
    """Return the replies that are answers and pass their rows' own checks (row_no → JSON), which only the gate must
    judge.

    `replied` is as for `decide_moves`; the rows may be as before their reply. Empty if the job has Python checks, which
    may be slow: paid replies are filed first; or if the API makes calls itself, which are filed with the move.
    """
    answering = [each for each in replied if policy_of(STOPS, each[1]).do is Do.JUDGE and not each[0].in_self_check]
    if not answering or context.job.checks or context.betas:
        return {}
    moves, _ = decide_moves(context, answering)
    return {row.row_no: move.content for row, move in moves if isinstance(move, Accept)}


def decide_moves(
    context: RunContext, page: Sequence[tuple[RowAt, str, bytes]]
) -> tuple[list[tuple[RowAt, Move]], list[ToolRecord]]:
    """Return each row's move after its reply (row, stop_reason, content), and records of calls the API made itself."""
    spec, rules = context.job.spec, context.job.spec.checks.rules
    rows = [row for row, *_ in page]
    with context.ledger.view() as tx:
        checked = rows if context.job.checks or rules else []
        contents = ledger_turns.row_contents(tx, [row.row_no for row in checked])
        telling = [row for row, stop_reason, _ in page if _needs_outputs(spec, row, stop_reason)]
        outputs = ledger_turns.tool_calls_of_conversations(tx, telling)
        quoted = ledger_turns.quotations(tx, rows) if rules else {}
        answers = ledger_turns.row_answers(tx, [row.row_no for row in rows if row.in_self_check])
    by_the_api: list[ToolRecord] = []
    judging = partial(judge_answer, answer=context.job.answer, checks=context.job.checks, built_in=rules)

    def row_values(row_no: int) -> dict[str, object]:
        return orjson.loads(contents[row_no])

    def outputs_of(row_no: int) -> list[ToolOutput]:
        earlier = quoted[row_no].outputs if row_no in quoted else []
        here = [ToolOutput(each.tool, each.output, bool(each.is_error)) for each in outputs.get(row_no, [])]
        return [*(ToolOutput(each.tool, each.output) for each in earlier), *here]

    moves: list[tuple[RowAt, Move]] = []
    calls_itself = bool(context.betas)
    for row, stop_reason, content in page:
        blocks = parse_json(content)
        if own := _made_by_the_api(row, blocks) if calls_itself else []:
            by_the_api += own
            outputs[row.row_no] = [*outputs.get(row.row_no, []), *own]
        if row.in_self_check:
            verdict = parse_self_check_reply(text_of(blocks), answers[row.row_no])
            moves.append((row, after_self_check(spec, row, verdict)))
            continue
        judged = partial(judging, row=partial(row_values, row.row_no), outputs=partial(outputs_of, row.row_no))
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
        judged = sum(policy_of(STOPS, stop).do is Do.JUDGE and not row.in_self_check for row, stop, _ in replied)
        check_job_wide_fault(context, "answer", failures, judged, now=now)


def _under(context: RunContext, row: RowAt, move: Move) -> Move:
    return after_amend(context.job.spec, row, move) if row.version_no in context.earlier_versions else move


def _apply(
    context: RunContext,
    page: Sequence[tuple[RowAt, Move]],
    tools: CallOutcomes,
    by_the_api: Sequence[ToolRecord],
    *,
    now: datetime,
) -> None:
    """Commit a page: tool results first, then every row's move."""
    waiting = {move_reason.row_no for move_reason in tools.waiting}
    calls = {row.row_no: len(move.calls) for row, move in page if isinstance(move, CallTools)}
    is_gated = context.job.is_gated

    def move_reasons(kind: type[Correct | ExtendMaxTokens | Restart | GiveUp]) -> list[MoveReason]:
        return [_move_reason(row, move) for row, move in page if isinstance(move, kind)]

    with context.ledger.page() as tx:
        ledger_turns.record_tool_calls(tx, tools.records)
        # A reply may be judged again; the calls that the API made for it are recorded already.
        ledger_turns.record_tool_calls(tx, by_the_api, when_there="ON CONFLICT DO NOTHING")
        ledger_tool_calls.record_outputs(tx, context.run, tools.outputs, asked_at=tools.asked_at)
        ledger_recordings.record(tx, context.run.job, tools.recordings)
        ledger_rows.hold_rows(tx, tools.waiting, now=now)
        ledger_rows.continue_after_tools(tx, {row_no: n for row_no, n in calls.items() if row_no not in waiting})
        to_check = {row.row_no: move.content for row, move in page if isinstance(move, SelfCheck)}
        ledger_rows.begin_self_check(tx, context.run, to_check)
        answered = {row: move.content for row, move in page if isinstance(move, Accept)}
        answers = {row.row_no: content for row, content in answered.items()}
        ledger_rows.record_answers(tx, context.run, answers, is_gated=is_gated)
        ledger_rows.correct_rows(tx, move_reasons(Correct), now=now)
        ledger_rows.extend_max_tokens(tx, move_reasons(ExtendMaxTokens), now=now)
        ledger_rows.ask_rows_again(tx, move_reasons(Restart), now=now)
        escalating = [(row, move) for row, move in page if isinstance(move, Escalate)]
        ledger_tiers.escalate_up_the_ladder(tx, context.run, context.escalation, escalating, now=now)
        ledger_rows.quarantine_rows(tx, move_reasons(GiveUp), now=now)
        accepted = Counter(row.tier for row in answered if not is_gated)
        given_up = Counter(row.tier for row, move in page if isinstance(move, GiveUp))
        ledger_tiers.add_tier_visits(tx, context.run, accepted=accepted, quarantined=given_up)


def _move_reason(row: RowAt, move: Move) -> MoveReason:
    """Return the reason of a row's move; a self-check's finding is noted at the turn of the answer it checked."""
    assert isinstance(move, Correct | ExtendMaxTokens | Restart | GiveUp)
    words = move.feedback if isinstance(move, Correct) else move.detail
    return MoveReason(row.row_no, row.turn - row.in_self_check, move.reason, words)


def _needs_outputs(spec: JobSpec, row: RowAt, stop_reason: str) -> bool:
    """Whether tool outputs decide the row's move: they may ground its answer, or show that it repeats a call."""
    match policy_of(STOPS, stop_reason).do:
        case Do.JUDGE:
            return bool(spec.checks.rules)
        case Do.RUN_TOOLS:
            return row.tool_calls >= spec.limits.repeats
        case _:
            return False


def _made_by_the_api(row: RowAt, blocks: Blocks) -> list[ToolRecord]:
    return [
        ToolRecord(
            row.row_no, row.turn, position, call.call_id, call.tool, call.arguments, call.output, call.is_error, 0
        )
        for position, call in enumerate(connector_calls(blocks), FIRST_BY_THE_API)
    ]


def _times_made(servers: Collection[str], records: Iterable[ToolRecord], use: ToolUse) -> int:
    """How often a row has made this very call."""
    arguments = dump_json(use.arguments, orjson.OPT_SORT_KEYS)
    return sum(
        record.arguments == arguments and wire_name_of_plain(record.tool, servers) == use.tool for record in records
    )

"""Decides a row's next move: a pure function of where the row is and what the model just said.

The conversation is the agent's only state. If it ends in unanswered tool calls, answer them; if it ends in an answer,
judge it. There is no other resume logic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rowtide.agent.outcome_policies import STOPS, Do, policy_of
from rowtide.job.job_code import JobCodeFailure
from rowtide.job.job_spec import JobSpec
from rowtide.tiers.pricing import MICRO

Blocks = list[dict[str, Any]]

LENGTHENINGS = 1  # a second cut at twice the length is no accident


class RowAt(NamedTuple):
    """Where a row is: the columns that decisions need."""

    row_no: int
    row_key: str
    tier: int
    turn: int
    conversation_from: int
    tool_calls: int
    corrections: int
    max_tokens_doublings: int
    bounces: int
    tokens: int = 0
    cost_micro: int = 0
    in_self_check: int = 0
    prefix_no: int = 0
    effort: str | None = None
    turn_limit: int | None = None
    version_no: int = 0
    """The version that it is, or was last, asked under."""

    @property
    def turns_here(self) -> int:
        """Replies so far in the present conversation."""
        return self.turn - self.conversation_from


@dataclass(frozen=True, slots=True)
class ToolUse:
    call_id: str
    tool: str
    arguments: dict[str, object]


@dataclass(frozen=True, slots=True)
class CallTools:
    """Make these calls, then ask again. No calls: the model only paused."""

    calls: list[ToolUse]


@dataclass(frozen=True, slots=True)
class Accept:
    """The answer, as JSON, passed the row's own checks."""

    content: bytes


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """The answer, as JSON, passed all but the self-check: have another model check it."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Correct:
    """Ask again with `feedback`, which tells the model what was wrong."""

    reason: str
    feedback: str


@dataclass(frozen=True, slots=True)
class ExtendMaxTokens:
    """The reply was cut: discard it and ask again with max_tokens doubled."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Escalate:
    """Start afresh further up the ladder."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Restart:
    """The row was asked under an earlier version of the job: ask afresh under the present one."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing more can be tried: quarantine the row."""

    reason: str
    detail: str
    failure: JobCodeFailure | None = None
    """The failure of the job's own code, if that is the reason."""


Move = CallTools | Accept | SelfCheck | Correct | ExtendMaxTokens | Escalate | Restart | GiveUp


class Verdict(NamedTuple):
    """An answer's verdict: its JSON, and its problems in words that a model can act on.

    Or `failure`: the job's own code failed, so there is no verdict, and no model can correct that.
    """

    content: bytes
    problems: list[str]
    failure: JobCodeFailure | None = None


Judge = Callable[[str], Verdict]
TimesMade = Callable[[ToolUse], int]  # counts this very call in the present conversation


def next_move(
    job: JobSpec, row: RowAt, stop_reason: str, blocks: Blocks, judge: Judge, times_made: TimesMade = lambda _: 0
) -> Move:
    """Return the move that follows the reply `blocks`, which ended with `stop_reason`."""
    move = _move(job, row, stop_reason, blocks, judge, times_made)
    if isinstance(move, Accept | GiveUp):
        return move
    return _at_its_limit(job, row) or move


def after_self_check(job: JobSpec, row: RowAt, verdict: Verdict) -> Move:
    """Return the move that follows a self-check: `verdict` holds the answer and what the self-check found wrong."""
    move = _after_answer(job, row, verdict)
    if isinstance(move, Accept | GiveUp):
        return move
    return _at_its_limit(job, row) or move


def after_amend(job: JobSpec, row: RowAt, move: Move) -> Accept | Restart | GiveUp:
    """Return the move that follows a reply to an earlier version: an answer that passes counts, all else is asked anew.

    That holds also when the job's own code failed: a check of today may need what only today's prompt asks for.
    """
    if isinstance(move, Accept):
        return move
    detail = move.feedback if isinstance(move, Correct) else getattr(move, "detail", "")
    return ask_anew(job, row, getattr(move, "reason", "amended"), detail)


def ask_anew(job: JobSpec, row: RowAt, reason: str, detail: str) -> Restart | GiveUp:
    """Return the move that asks the row anew under the present version, unless it is at its limit."""
    return _at_its_limit(job, row) or Restart(reason, detail)


def _at_its_limit(job: JobSpec, row: RowAt) -> GiveUp | None:
    """Return GiveUp for a row that has used up its tokens or its dollars, on any tier; else None."""
    limits = job.limits
    if limits.tokens is not None and row.tokens >= limits.tokens:
        return GiveUp(
            "token_limit", f"{row.tokens:,} tokens without a verified answer; limits.tokens is {limits.tokens:,}"
        )
    if limits.row_usd is not None and row.cost_micro >= limits.row_usd * MICRO:
        spent = f"${row.cost_micro / MICRO:.6f} without a verified answer"
        return GiveUp("row_budget", f"{spent}; limits.row_usd is {limits.row_usd:g}")
    return None


def _move(job: JobSpec, row: RowAt, stop_reason: str, blocks: Blocks, judge: Judge, times_made: TimesMade) -> Move:
    policy = policy_of(STOPS, stop_reason)
    match policy.do:
        case Do.JUDGE:
            move = _after_answer(job, row, judge(text_of(blocks)))
            return SelfCheck(move.content) if isinstance(move, Accept) and job.checks.self_check else move
        case Do.RUN_TOOLS if calls := _tool_uses(blocks):
            return _after_tools(job, row, calls, times_made)
        case Do.RUN_TOOLS:
            kinds = ", ".join(sorted({str(block.get("type")) for block in blocks})) or "nothing"
            return _escalate(job, row, "unknown_block", f"the model waits for a tool, but said only {kinds}")
        case Do.GO_ON:
            return _after_tools(job, row, [], times_made)
        case Do.EXTEND_MAX_TOKENS if row.max_tokens_doublings < LENGTHENINGS and not _out_of_turns(job, row):
            return ExtendMaxTokens(policy.reason, f"the reply was cut at {max_reply_tokens(job, row):,} tokens")
        case _:
            return _escalate(job, row, policy.reason, f"stop_reason {stop_reason!r}: {policy.why}")


def max_reply_tokens(job: JobSpec, row: RowAt) -> int:
    """Return the max_tokens of the row's next reply, before the model's own limit."""
    return job.limits.max_tokens * 2**row.max_tokens_doublings


def after_gate(job: JobSpec, row: RowAt, failures: list[str]) -> Escalate | GiveUp:
    """Return the move that follows an answer which the answers gate refused."""
    move = _escalate(job, row, "gate_failed", "; ".join(failures))
    return move if isinstance(move, GiveUp) else _at_its_limit(job, row) or move


def text_of(blocks: Blocks) -> str:
    """Return the text of a reply, without thinking and tool blocks."""
    return "".join(block["text"] for block in blocks if block.get("type") == "text")


def _after_tools(job: JobSpec, row: RowAt, calls: list[ToolUse], times_made: TimesMade) -> Move:
    if _out_of_turns(job, row):
        return _escalate(job, row, "turn_limit", f"{row.turns_here} turns without an answer")
    if row.tool_calls + len(calls) > job.limits.tool_calls:
        return _escalate(job, row, "tool_call_limit", f"asked for more than {job.limits.tool_calls} tool calls")
    for number, call in enumerate(calls):
        here = sum((call.tool, call.arguments) == (each.tool, each.arguments) for each in calls[:number])
        if (times := times_made(call) + here) >= job.limits.repeats:
            return _escalate(job, row, "loop", f"{call.tool} was called {times} times with the same arguments")
    return CallTools(calls)


def _after_answer(job: JobSpec, row: RowAt, verdict: Verdict) -> Move:
    if failure := verdict.failure:
        return GiveUp(failure.reason, failure.words, failure)
    if not verdict.problems:
        return Accept(verdict.content)
    if row.corrections >= job.checks.corrections or _out_of_turns(job, row):
        return _escalate(job, row, "not_verified", "; ".join(verdict.problems))
    feedback = "\n".join(["Your answer was not accepted:", *(f"- {each}" for each in verdict.problems)])
    return Correct("not_verified", feedback + "\nMend exactly this and answer again, in full.")


def _escalate(job: JobSpec, row: RowAt, reason: str, detail: str) -> Escalate | GiveUp:
    if row.tier + 1 < len(job.tiers):
        return Escalate(reason, detail)
    return GiveUp(reason, detail)


def _out_of_turns(job: JobSpec, row: RowAt) -> bool:
    return row.turns_here >= (row.turn_limit or job.limits.turns)


def _tool_uses(blocks: Blocks) -> list[ToolUse]:
    return [
        ToolUse(str(block["id"]), str(block["name"]), dict(block["input"]))
        for block in blocks
        if block.get("type") == "tool_use"
    ]

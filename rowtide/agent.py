"""What a row does next: a pure function of where it is and what the model just said.

The conversation is the agent's only state. If it ends in unanswered tool calls, answer them; if it ends in an
answer, judge it. There is no other resume logic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rowtide.job import JobSpec
from rowtide.policies import STOPS, Do, policy_of

Blocks = list[dict[str, Any]]

LENGTHENINGS = 1  # a second cut at twice the room is no accident


@dataclass(frozen=True, slots=True)
class RowAt:
    """Where a row is: what decisions need of it."""

    row_no: int
    row_key: str
    tier: int
    turn: int
    conversation_from: int
    tool_calls: int
    corrections: int
    longer: int
    bounces: int

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
    """Run these, then ask again. None at all: the model only paused."""

    calls: list[ToolUse]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer, as JSON, passed the row's own checks."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Correct:
    """Tell the model what was wrong; `told` is what it reads."""

    reason: str
    told: str


@dataclass(frozen=True, slots=True)
class Lengthen:
    """The reply was cut: forget it and ask again, with room for twice as much."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Escalate:
    """Start afresh one tier up."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing more can be tried: quarantine."""

    reason: str
    detail: str


Move = CallTools | Answer | Correct | Lengthen | Escalate | GiveUp


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks say of an answer: its JSON, or the problems in words a model can act on."""

    content: bytes
    problems: list[str]


Judge = Callable[[str], Verdict]


def next_move(job: JobSpec, row: RowAt, stop_reason: str, blocks: Blocks, judge: Judge) -> Move:
    """Decide what follows the reply `blocks` that ended with `stop_reason`."""
    policy = policy_of(STOPS, stop_reason)
    match policy.do:
        case Do.JUDGE:
            return _after_answer(job, row, judge(text_of(blocks)))
        case Do.RUN_TOOLS if calls := _tool_uses(blocks):
            return _after_tools(job, row, calls)
        case Do.RUN_TOOLS:
            kinds = ", ".join(sorted({str(block.get("type")) for block in blocks})) or "nothing"
            return _climb(job, row, "unknown_block", f"the model waits for a tool, but said only {kinds}")
        case Do.GO_ON:
            return _after_tools(job, row, [])
        case Do.LENGTHEN if row.longer < LENGTHENINGS and row.turns_here < job.limits.turns:
            return Lengthen(policy.reason, f"the reply was cut at {room(job, row):,} tokens")
        case _:
            return _climb(job, row, policy.reason, f"stop_reason {stop_reason!r}: {policy.why}")


def room(job: JobSpec, row: RowAt) -> int:
    """The most tokens the row's next reply may have, before the model's own limit."""
    return job.limits.max_tokens * 2**row.longer


def after_gate(job: JobSpec, row: RowAt, failures: list[str]) -> Escalate | GiveUp:
    """Decide what follows an answer that the answers gate refused."""
    return GiveUp("gate_failed", "; ".join(failures))


def text_of(blocks: Blocks) -> str:
    """The text a reply ends in; thinking and tool blocks are left out."""
    return "".join(block["text"] for block in blocks if block.get("type") == "text")


def _after_tools(job: JobSpec, row: RowAt, calls: list[ToolUse]) -> Move:
    if row.turns_here >= job.limits.turns:
        return _climb(job, row, "turn_limit", f"{row.turns_here} turns without an answer")
    if row.tool_calls + len(calls) > job.limits.tool_calls:
        return _climb(job, row, "tool_call_limit", f"asked for more than {job.limits.tool_calls} tool calls")
    return CallTools(calls)


def _after_answer(job: JobSpec, row: RowAt, verdict: Verdict) -> Move:
    if not verdict.problems:
        return Answer(verdict.content)
    if row.corrections >= job.checks.corrections or row.turns_here >= job.limits.turns:
        return _climb(job, row, "not_verified", "; ".join(verdict.problems))
    told = "\n".join(["Your answer was not accepted:", *(f"- {each}" for each in verdict.problems)])
    return Correct("not_verified", told + "\nMend exactly this and answer again, in full.")


def _climb(job: JobSpec, row: RowAt, reason: str, detail: str) -> Escalate | GiveUp:
    if row.tier + 1 < len(job.tiers):
        return Escalate(reason, detail)
    return GiveUp(reason, detail)


def _tool_uses(blocks: Blocks) -> list[ToolUse]:
    return [
        ToolUse(str(block["id"]), str(block["name"]), dict(block["input"]))
        for block in blocks
        if block.get("type") == "tool_use"
    ]

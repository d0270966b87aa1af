"""Makes the tool calls of a page of rows, reuses remembered outputs, and requests approvals.

Where the job says `remember`, a read-only call is made once for all rows of a run that ask alike, until it fails, is
too old, or a person sends the row again. A call that changes something is recorded before it is made and after, one by
one, with an idempotency key for the server: (run, row, turn, call).
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import orjson

from rowtide.agent.agent import CallTools, Move, RowAt, ToolUse
from rowtide.gates.call_approvals import ApprovalRecord, Place
from rowtide.json_bytes import dump_json
from rowtide.ledger import recordings as ledger_recordings
from rowtide.ledger import tool_calls as ledger_tool_calls
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.ledger import to_timestamp
from rowtide.ledger.rows import MoveReason
from rowtide.ledger.tool_calls import RecordedOutput
from rowtide.ledger.turns import ToolRecord
from rowtide.stages.run_context import Clock, RunContext
from rowtide.tools.recordings import recording_of
from rowtide.tools.tools import Tool, ToolOutcome, ToolPool

FOR_EVER_SECONDS = 1e9  # longer than any run
NO_MEMO = RecordedOutput("", "")  # older than any
BY_KEY = orjson.OPT_SORT_KEYS
NOT_IN_EVAL = "In an eval nothing is changed, so this call was not made. Go on without it."
ON_THE_WIRE = "the process died while this call was on the wire: it may have taken place"


class RequestedCall(NamedTuple):
    """One call that a row's model requests."""

    row: RowAt
    position: int
    use: ToolUse
    name: str
    """`server.tool`, as people know it."""
    arguments: bytes
    """JSON, its keys sorted."""

    @property
    def place(self) -> Place:
        return self.row.row_no, self.row.turn, self.position

    @property
    def hash(self) -> str:
        return hashlib.blake2b(self.use.tool.encode() + b"\0" + self.arguments, digest_size=16).hexdigest()


@dataclass(slots=True)
class CallOutcomes:
    """The outcomes of a page's calls: records to file, outputs to remember, rows that await approval."""

    asked_at: datetime
    records: list[ToolRecord] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    waiting: list[MoveReason] = field(default_factory=list)
    recordings: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Of an eval: what calls heard that were not on record, and when, by `recording_of`."""


async def call_tools(
    context: RunContext, pool: ToolPool, page: Sequence[tuple[RowAt, Move]], *, clock: Clock
) -> CallOutcomes:
    """Make the calls of a page, except those of rows that await approval."""
    asked = [(row, move.calls) for row, move in page if isinstance(move, CallTools) and move.calls]
    outcomes_of_page = CallOutcomes(asked_at=clock())
    if not asked:
        return outcomes_of_page
    tools = {tool.wire_name: tool for tool in await pool.catalogue()}
    names = {wire: tool.name for wire, tool in tools.items()}
    calls = [
        RequestedCall(row, position, use, names.get(use.tool, use.tool), dump_json(use.arguments, BY_KEY))
        for row, uses in asked
        for position, use in enumerate(uses)
    ]
    if context.run.eval_id:
        return await _call_for_eval(context, pool, tools, calls, outcomes_of_page)
    writes = [call for call in calls if _writes(tools, call)]
    ready = _with_approval(context, tools, writes, outcomes_of_page, clock()) if writes else {}
    held = {move_reason.row_no for move_reason in outcomes_of_page.waiting}
    reads = [call for call in calls if not _writes(tools, call) and call.row.row_no not in held]
    wanted = [call for call in writes if call.row.row_no not in held]
    read, written = await asyncio.gather(
        _read(context, pool, tools, reads, outcomes_of_page),
        asyncio.gather(*(_write(context, pool, call, ready.get(call.place), clock) for call in wanted)),
    )
    outcomes_of_page.records += read
    outcomes_of_page.records += [record for record in written if record is not None]
    return outcomes_of_page


async def _call_for_eval(
    context: RunContext,
    pool: ToolPool,
    tools: Mapping[str, Tool],
    calls: Sequence[RequestedCall],
    found: CallOutcomes,
) -> CallOutcomes:
    """Make the calls of an eval's page: what is on record is played back, for both versions must hear the same; only
    the rest is made. What would change something is not."""
    reads = [call for call in calls if not _writes(tools, call)]
    refused = [call for call in calls if _writes(tools, call)]
    found.records += [_record(call, ToolOutcome(call.name, NOT_IN_EVAL, True, 0.0)) for call in refused]
    marks = {
        call.place: recording_of(context.job.version.asks, context.servers, call.name, call.arguments) for call in reads
    }
    oldest = found.asked_at - timedelta(days=context.job.spec.evals.reuse_days or 1)
    with context.ledger.view() as tx:
        kept = ledger_recordings.recorded(tx, context.run, set(marks.values()), since=oldest)
    asking = {marks[call.place]: call for call in reversed(reads) if marks[call.place] not in kept}
    made = dict(zip(asking, [outcome for _, outcome in await _made(pool, [*asking.values()])], strict=True))
    at = to_timestamp(found.asked_at)
    found.recordings |= {mark: (outcome.text, at) for mark, outcome in made.items() if not outcome.is_error}
    for call in reads:
        if (mark := marks[call.place]) in kept:
            found.records.append(_remembered(call, kept[mark]))
        else:
            found.records.append(_record(call, made[mark], remembered=int(asking[mark] is not call)))
    return found


def _writes(tools: Mapping[str, Tool], call: RequestedCall) -> bool:
    """Whether a call may change something. A call of an unknown tool cannot: the pool refuses it."""
    tool = tools.get(call.use.tool)
    return tool is not None and tool.may_write


async def _read(
    context: RunContext,
    pool: ToolPool,
    tools: Mapping[str, Tool],
    calls: Sequence[RequestedCall],
    outcomes_of_page: CallOutcomes,
) -> list[ToolRecord]:
    """Make read-only calls that have no remembered output. A failure is not shared: other rows make the call."""
    alike, alone = defaultdict[str, list[RequestedCall]](list), list[RequestedCall]()
    for call in calls:
        if call.use.tool in tools and tools[call.use.tool].remember_seconds:
            alike[call.hash].append(call)
        else:
            alone.append(call)
    records, asking = _remembering(context, tools, alike, outcomes_of_page.asked_at) if alike else ([], alike)
    outcomes = await _made(pool, [*(same[0] for same in asking.values()), *alone])
    records += [_record(call, outcome) for call, outcome in outcomes]
    rest: list[RequestedCall] = []
    for (key, same), (_, outcome) in zip(asking.items(), outcomes, strict=False):
        if outcome.is_error:
            rest += same[1:]
        else:
            outcomes_of_page.outputs[key] = outcome.text
            records += [_remembered(other, outcome.text) for other in same[1:]]
    again = await _made(pool, rest)
    outcomes_of_page.outputs |= {call.hash: outcome.text for call, outcome in again if not outcome.is_error}
    return records + [_record(call, outcome) for call, outcome in again]


async def _made(pool: ToolPool, calls: Sequence[RequestedCall]) -> list[tuple[RequestedCall, ToolOutcome]]:
    outcomes = await pool.call_all([(call.use.tool, call.use.arguments) for call in calls])
    return list(zip(calls, outcomes, strict=True))


def _remembering(
    context: RunContext, tools: Mapping[str, Tool], alike: Mapping[str, list[RequestedCall]], now: datetime
) -> tuple[list[ToolRecord], Mapping[str, list[RequestedCall]]]:
    """Return records for calls that an earlier output answers, and the other calls by hash."""
    with context.ledger.view() as tx:
        memos = ledger_tool_calls.recorded_outputs(tx, context.run, alike)
        rows = [call.row.row_no for key in memos for call in alike[key]]
        sent_again = ledger_tool_calls.resend_times(tx, rows) if memos else {}
    records, asking = list[ToolRecord](), defaultdict[str, list[RequestedCall]](list)
    for key, same in alike.items():
        memo, tool = memos.get(key, NO_MEMO), tools[same[0].use.tool]
        oldest = to_timestamp(now - timedelta(seconds=min(tool.remember_seconds, FOR_EVER_SECONDS)))
        is_fresh = memo.asked_at > oldest and not tool.says_error(memo.output)
        for call in same:
            if is_fresh and memo.asked_at > sent_again.get(call.row.row_no, ""):
                records.append(_remembered(call, memo.output))
            else:
                asking[key].append(call)
    return records, asking


def _with_approval(
    context: RunContext,
    tools: Mapping[str, Tool],
    calls: Sequence[RequestedCall],
    outcomes_of_page: CallOutcomes,
    now: datetime,
) -> dict[Place, ApprovalRecord]:
    """Request approvals where the job asks for them. Returns known approvals by place; fills
    `outcomes_of_page.waiting`.
    """
    with context.ledger.view() as tx:
        known = ledger_tool_calls.call_approvals(tx, [call.row.row_no for call in calls])
    new = [call for call in calls if tools[call.use.tool].asks and call.place not in known]
    not_recorded = [call for call in calls if call.place in known and known[call.place].state == "sent"]
    with context.ledger.page() as tx:
        ledger_tool_calls.request_approval(tx, [(call.place, call.name, call.arguments) for call in new], now=now)
        ledger_tool_calls.move_approvals(tx, [call.place for call in not_recorded], "asked", why=ON_THE_WIRE)
    asked = [call for call in calls if call.place in known and known[call.place].state == "asked"]
    waiting = {call.row.row_no: call for call in reversed([*new, *not_recorded, *asked])}
    outcomes_of_page.waiting += [
        MoveReason(row_no, call.row.turn, "approval", f"{call.name}({call.arguments.decode()}) waits for a person")
        for row_no, call in sorted(waiting.items())
    ]
    return known


async def _write(
    context: RunContext, pool: ToolPool, call: RequestedCall, known: ApprovalRecord | None, clock: Clock
) -> ToolRecord | None:
    """Make a call that changes something, once. None when its outcome is filed, now or by an earlier process."""
    if known is not None and known.state == "done":
        return None
    if known is not None and known.state == "denied":
        text = f"A person did not allow this call{f': {known.why}' if known.why else ''}. Go on without it."
        return _record(call, ToolOutcome(call.name, text, True, 0.0))
    with context.ledger.page() as tx:
        if known is None:
            ledger_tool_calls.record_calls_sent(tx, [(call.place, call.name, call.arguments)], now=clock())
        else:
            ledger_tool_calls.move_approvals(tx, [call.place], "sent")
    key = f"{context.run.run_id}-{'-'.join(map(str, call.place))}"
    outcome = await pool.call(call.use.tool, call.use.arguments, idempotency_key=key)
    with context.ledger.page() as tx:
        ledger_turns.record_tool_calls(tx, [_record(call, outcome)])
        ledger_tool_calls.move_approvals(tx, [call.place], "done")
    return None


def _remembered(call: RequestedCall, output: str) -> ToolRecord:
    return _record(call, ToolOutcome(call.name, output, False, 0.0), remembered=1)


def _record(call: RequestedCall, outcome: ToolOutcome, *, remembered: int = 0) -> ToolRecord:
    return ToolRecord(
        row_no=call.row.row_no,
        turn=call.row.turn,
        position=call.position,
        call_id=call.use.call_id,
        tool=outcome.tool,
        arguments=call.arguments,
        output=outcome.text,
        is_error=int(outcome.is_error),
        milliseconds=round(outcome.seconds * 1000),
        remembered=remembered,
    )

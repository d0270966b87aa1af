"""Records outputs of tool calls for reuse, and approvals of calls that change something.

Outputs of read-only calls are kept where the job says so: only of calls known to have succeeded, with their time, and
for as long as they hold. A call that changes something is recorded as *sent* before it is made and as *done* with its
outcome. If the process dies in between, nobody knows whether it took place, and a person is asked before it is made
again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from rowtide.errors import DecisionOutdated, IllegalMove
from rowtide.gates.call_approvals import ApprovalRecord, PendingCall, Place
from rowtide.ledger.ledger import Run, insert_rows, is_one_of, list_parameter, to_timestamp

# before → after; a person decides, and is asked again about a call that may or may not have taken place.
APPROVALS = {"asked": ("allowed", "denied"), "allowed": ("sent",), "sent": ("done", "asked")}


COLUMNS = ", ".join(f"a.{name}" for name in ApprovalRecord.__dataclass_fields__)


class RecordedOutput(NamedTuple):
    """The output of a call, and when it was made."""

    output: str
    asked_at: str


def recorded_outputs(tx: Connection, run: Run, hashes: Collection[str]) -> dict[str, RecordedOutput]:
    """Return the recorded outputs of this run's earlier calls, by call hash."""
    these = is_one_of(tx, "hashes", kind="text")
    query = f"SELECT call_hash, output, asked_at FROM memo WHERE run_no = :run AND call_hash {these}"
    found = tx.execute(text(query), {"run": run.run_no, "hashes": list_parameter(hashes)})
    return {key: RecordedOutput(output, asked_at) for key, output, asked_at in found}


def record_outputs(tx: Connection, run: Run, outputs: Mapping[str, str], *, asked_at: datetime) -> None:
    """Record outputs (hash → output) for identical later calls, in place of earlier ones."""
    # Sorted: two workers that insert the same calls in different orders would deadlock.
    records = [(run.run_no, key, output, to_timestamp(asked_at)) for key, output in sorted(outputs.items())]
    newer = "ON CONFLICT (run_no, call_hash) DO UPDATE SET output = excluded.output, asked_at = excluded.asked_at"
    insert_rows(tx, "memo", ["run_no", "call_hash", "output", "asked_at"], records, newer)


def resend_times(tx: Connection, row_nos: Sequence[int]) -> dict[int, str]:
    """Return when a person last sent each of these rows again; rows never sent again are left out."""
    these = is_one_of(tx, "rows")
    query = f"SELECT row_no, max(noted_at) FROM note WHERE row_no {these} AND move = 'retry' GROUP BY row_no"
    return dict(tx.execute(text(query), {"rows": list_parameter(row_nos)}).tuples().all())


def call_approvals(tx: Connection, row_nos: Sequence[int]) -> dict[Place, ApprovalRecord]:
    """Return the approval records of the rows' calls, by place."""
    query = text(f"SELECT {COLUMNS} FROM call_approval a WHERE a.row_no {is_one_of(tx, 'rows')}")
    found = tx.execute(query, {"rows": list_parameter(row_nos)})
    return {approval.place: approval for approval in (ApprovalRecord(*each) for each in found)}


def request_approval(tx: Connection, calls: Iterable[tuple[Place, str, bytes]], *, now: datetime) -> None:
    """Request a person's approval of calls: (place, tool, arguments as JSON)."""
    _write(tx, calls, "asked", now)


def record_calls_sent(tx: Connection, calls: Iterable[tuple[Place, str, bytes]], *, now: datetime) -> None:
    """Record that calls which need no approval are about to be made."""
    _write(tx, calls, "sent", now)


def move_approvals(tx: Connection, places: Iterable[Place], after: str, *, why: str | None = None) -> None:
    """Move approvals to the state `after`, all or none. Raises IllegalMove."""
    legal = ", ".join(f"'{before}'" for before, afters in APPROVALS.items() if after in afters)
    values = [{"row": row, "turn": turn, "position": position, "why": why} for row, turn, position in places]
    if not values:
        return
    moved = tx.execute(
        text(
            f"UPDATE call_approval SET state = '{after}', why = coalesce(:why, why) "
            f"WHERE row_no = :row AND turn = :turn AND position = :position AND state IN ({legal})"
        ),
        values,
    )
    if moved.rowcount != len(values):
        raise IllegalMove(f"{len(values) - moved.rowcount} of {len(values)} calls cannot become {after!r} from {legal}")


def pending_calls(tx: Connection, run: Run, *, limit: int | None = None) -> list[PendingCall]:
    """Return the run's calls that await approval, in the order of its rows."""
    query = text(
        f"SELECT r.row_key, {COLUMNS} FROM call_approval a JOIN row r ON r.row_no = a.row_no "
        "WHERE a.row_no BETWEEN :first AND :last AND a.state = 'asked' "
        "ORDER BY a.row_no, a.turn, a.position LIMIT :limit"
    )
    found = tx.execute(query, {"first": run.first_row_no, "last": run.last_row_no, "limit": limit or 2**62})
    return [
        PendingCall(key, approval.tool, approval.arguments, approval.why, approval)
        for key, approval in ((each[0], ApprovalRecord(*each[1:])) for each in found)
    ]


def mark_calls_shown(tx: Connection, calls: Sequence[PendingCall]) -> None:
    """Record that these calls were shown to a person in their present form."""
    _note(tx, "shown_hash = :hash", calls)


def decide_calls(
    tx: Connection, run: Run, calls: Sequence[PendingCall], decision: str, *, who: str, why: str | None, now: datetime
) -> int:
    """Allow or deny calls as they were shown; rows that wait for nothing else go on. Returns how many rows do.

    Raises DecisionOutdated, and decides nothing, if a call has changed or waits no more.
    """
    waiting = {each.approval.place: each.hash for each in pending_calls(tx, run)}
    if changed := sum(waiting.get(each.approval.place) != each.hash for each in calls):
        what = f"{changed:,} of {len(calls):,} calls are not as they were shown, so nothing is decided"
        raise DecisionOutdated(f"{what}; see them as they are now: rowtide approve {run.run_id}")
    move_approvals(tx, [each.approval.place for each in calls], decision, why=why)
    about = {"who": who, "now": to_timestamp(now)}
    _note(tx, "decided_by = :who, decided_at = :now, decided_hash = :hash", calls, **about)
    released = tx.execute(
        text(
            "UPDATE row SET state = 'replied', reason = NULL WHERE run_no = :run AND state = 'held' "
            "AND reason = 'approval' AND NOT EXISTS "
            "(SELECT 1 FROM call_approval a WHERE a.row_no = row.row_no AND a.state = 'asked')"
        ),
        {"run": run.run_no},
    )
    return released.rowcount


def _note(tx: Connection, what: str, calls: Sequence[PendingCall], **values: str) -> None:
    query = text(f"UPDATE call_approval SET {what} WHERE row_no = :row AND turn = :turn AND position = :position")
    for each in calls:
        row, turn, position = each.approval.place
        tx.execute(query, {"hash": each.hash, "row": row, "turn": turn, "position": position, **values})


def _write(tx: Connection, calls: Iterable[tuple[Place, str, bytes]], state: str, now: datetime) -> None:
    values = [
        {"row": row, "turn": turn, "at": position, "tool": tool, "arguments": arguments, "now": to_timestamp(now)}
        for (row, turn, position), tool, arguments in calls
    ]
    if values:
        tx.execute(
            text(
                "INSERT INTO call_approval (row_no, turn, position, tool, arguments, state, asked_at) "
                f"VALUES (:row, :turn, :at, :tool, :arguments, '{state}', :now)"
            ),
            values,
        )

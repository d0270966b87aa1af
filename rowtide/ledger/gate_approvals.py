"""Approvals of gates that a run did not pass: a person approves the run as it is, or rejects the waiting rows.

An approval covers what was shown: a gate's failures over a number of rows. More rows, or another failure, need a new
approval. Rejected rows are quarantined, so nothing is lost.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import orjson
from sqlalchemy import Connection, text

from rowtide.agent.states import RowState, state_after, states_before
from rowtide.errors import DecisionOutdated
from rowtide.gates.approvals import REJECTED, GateApproval, GateFailure, WaitingRows, approval_covers
from rowtide.ledger.ledger import Run, to_timestamp
from rowtide.ledger.quarantine import reopen_run

# before → after; an approval lapses when its gate passes before anybody has decided.
GATE_APPROVALS = {"asked": ("approved", "rejected", "lapsed")}


OUTDATED = "what holds the run is not what was shown, so nothing is decided; see it as it is now"

COLUMNS = "approval_no, gate, state, failures, rows, asked_at, shown_hash"


def pending_gate_approvals(tx: Connection, run: Run) -> list[GateApproval]:
    """Return the run's gates that await approval."""
    return [each for each in _newest(tx, run).values() if each.state == "asked"]


def record_gate_judgement(
    tx: Connection, run: Run, gate: str, failures: Sequence[GateFailure], *, rows: int, now: datetime
) -> bool:
    """Record the gate's failures over `rows` rows. Returns whether a person must approve before the run goes on."""
    last = _newest(tx, run).get(gate)
    open_one = last if last and last.state == "asked" else None
    if not failures or (last and last.state == "approved" and approval_covers(last, failures, rows)):
        _move(tx, [open_one] if open_one else [], "lapsed", now=now)
        return False
    columns = {"failures": orjson.dumps([asdict(each) for each in failures]).decode(), "rows": rows}
    if open_one:
        changed = text("UPDATE gate_approval SET failures = :failures, rows = :rows WHERE approval_no = :hold")
        tx.execute(changed, {**columns, "hold": open_one.approval_no})
    else:
        made = text(
            "INSERT INTO gate_approval (run_no, gate, state, failures, rows, asked_at) "
            "VALUES (:run, :gate, 'asked', :failures, :rows, :now)"
        )
        tx.execute(made, {**columns, "run": run.run_no, "gate": gate, "now": to_timestamp(now)})
    return True


def approve_gates(
    tx: Connection, run: Run, gate_approvals: Sequence[GateApproval], *, who: str, why: str | None, now: datetime
) -> None:
    """Let the run go on past these gates. Raises DecisionOutdated when they are no longer as shown."""
    _check_as_shown(tx, run, gate_approvals)
    _move(tx, gate_approvals, "approved", who=who, why=why, now=now)
    reopen_run(tx, run)


def reject_gates(
    tx: Connection, run: Run, gate_approvals: Sequence[GateApproval], *, who: str, why: str | None, now: datetime
) -> int:
    """Quarantine the rows that wait at these gates and return their number. Raises as `approve_gates` does."""
    _check_as_shown(tx, run, gate_approvals)
    _move(tx, gate_approvals, "rejected", who=who, why=why, now=now)
    reopen_run(tx, run)
    return sum(_quarantine(tx, run, state, who, why, now) for state in {each.waiting for each in gate_approvals})


def mark_gates_shown(tx: Connection, gate_approvals: Sequence[GateApproval]) -> None:
    """Record that these gates were shown to a person in their present form."""
    for each in gate_approvals:
        noted = text("UPDATE gate_approval SET shown_hash = :hash WHERE approval_no = :hold")
        tx.execute(noted, {"hash": each.hash, "hold": each.approval_no})


def _check_as_shown(tx: Connection, run: Run, gate_approvals: Sequence[GateApproval]) -> None:
    now = {each.approval_no: each.hash for each in pending_gate_approvals(tx, run)}
    if any(now.get(each.approval_no) != each.hash for each in gate_approvals):
        raise DecisionOutdated(f"{OUTDATED}: rowtide approve {run.run_id}")


def rows_awaiting_gates(tx: Connection, run: Run, gate_approvals: Sequence[GateApproval]) -> WaitingRows:
    """Count the rows that wait at these gates, and those among them that would replace a loaded row."""
    states = {each.waiting.value for each in gate_approvals}
    waiting = "FROM row r WHERE r.run_no = :run AND r.state = :state"
    replaced = f"{waiting} AND EXISTS (SELECT 1 FROM loaded l WHERE l.job = :job AND l.row_key = r.row_key)"
    query = text(f"SELECT (SELECT count(*) {waiting}), (SELECT count(*) {replaced})")
    counted = [tx.execute(query, {"run": run.run_no, "job": run.job, "state": state}).one() for state in states]
    return WaitingRows(sum(rows for rows, _ in counted), sum(replaces for _, replaces in counted))


def _newest(tx: Connection, run: Run) -> dict[str, GateApproval]:
    """Return the newest approval record of each gate."""
    found = tx.execute(
        text(f"SELECT {COLUMNS} FROM gate_approval WHERE run_no = :run ORDER BY approval_no"), {"run": run.run_no}
    )
    return {
        gate: GateApproval(approval_no, gate, state, [GateFailure(**each) for each in orjson.loads(failures)], *rest)
        for approval_no, gate, state, failures, *rest in found
    }


def _move(
    tx: Connection,
    gate_approvals: Sequence[GateApproval],
    after: str,
    *,
    who: str | None = None,
    why: str | None = None,
    now: datetime,
) -> None:
    assert after in GATE_APPROVALS["asked"]
    decided = text(
        "UPDATE gate_approval SET state = :after, decided_by = :who, decided_at = :now, why = :why "
        "WHERE approval_no = :hold AND state = 'asked'"
    )
    decision = {"after": after, "who": who, "why": why, "now": to_timestamp(now)}
    for each in gate_approvals:
        tx.execute(decided, {**decision, "hold": each.approval_no})


def _quarantine(tx: Connection, run: Run, state: RowState, who: str, why: str | None, now: datetime) -> int:
    """Quarantine all of the run's rows in `state`, in two statements for any number. Returns how many."""
    assert state in states_before("quarantine")
    waiting = "run_no = :run AND state = :state AND load_no IS NULL"
    values = {"run": run.run_no, "state": state.value, "who": who, "why": why or "", "now": to_timestamp(now)}
    noted = "INSERT INTO note (row_no, turn, move, reason, detail, noted_at, who) SELECT row_no, turn"
    tx.execute(text(f"{noted}, 'quarantine', '{REJECTED}', :why, :now, :who FROM row WHERE {waiting}"), values)
    moved = text(f"UPDATE row SET state = '{state_after('quarantine')}', reason = '{REJECTED}' WHERE {waiting}")
    return tx.execute(moved, values).rowcount

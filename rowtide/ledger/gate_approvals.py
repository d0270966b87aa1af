"""Gates that a run did not pass: put before a person, who approves of the run as it is or rejects what waits.

A person approves of what was shown: of a gate's failures, over so many rows. More rows, or another failure, are asked
about again. What is rejected is quarantined, so that nothing is dropped.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import orjson
from sqlalchemy import Connection, text

from rowtide.agent.states import RowState, sources_of, target_of
from rowtide.errors import Outdated
from rowtide.gates.approvals import REJECTED, Failure, Hold, covers, going_on
from rowtide.ledger.ledger import Run, timestamp

# before → after; it lapses when the gate is passed before anybody has decided.
HOLDS = {"asked": ("approved", "rejected", "lapsed")}


OUTDATED = "what holds the run is not what was shown, so nothing is decided; see it as it is now"

COLUMNS = "hold_no, gate, state, failures, rows, asked_at, shown_hash"


def asked(tx: Connection, run: Run) -> list[Hold]:
    """The gates of a run that wait for a person."""
    return [hold for hold in _newest(tx, run).values() if hold.state == "asked"]


def judged(tx: Connection, run: Run, gate: str, failures: Sequence[Failure], *, rows: int, now: datetime) -> bool:
    """Note how the run fared at a gate over so many rows. Returns whether a person must decide before it goes on."""
    last = _newest(tx, run).get(gate)
    open_one = last if last and last.state == "asked" else None
    if not failures or (last and last.state == "approved" and covers(last, failures, rows)):
        _move(tx, [open_one] if open_one else [], "lapsed", now=now)
        return False
    told = {"failures": orjson.dumps([asdict(each) for each in failures]).decode(), "rows": rows}
    if open_one:
        changed = text("UPDATE hold SET failures = :failures, rows = :rows WHERE hold_no = :hold")
        tx.execute(changed, {**told, "hold": open_one.hold_no})
    else:
        made = text(
            "INSERT INTO hold (run_no, gate, state, failures, rows, asked_at) "
            "VALUES (:run, :gate, 'asked', :failures, :rows, :now)"
        )
        tx.execute(made, {**told, "run": run.run_no, "gate": gate, "now": timestamp(now)})
    return True


def approve(tx: Connection, run: Run, holds: Sequence[Hold], *, who: str, why: str | None, now: datetime) -> None:
    """Let the run go on past these gates. Raises Outdated where they are not as they were shown."""
    _check_as_shown(tx, run, holds)
    _move(tx, holds, "approved", who=who, why=why, now=now)
    _reopen(tx, run)


def reject(tx: Connection, run: Run, holds: Sequence[Hold], *, who: str, why: str | None, now: datetime) -> int:
    """Quarantine the rows that wait at these gates. Returns how many. Raises Outdated as `approve` does."""
    _check_as_shown(tx, run, holds)
    _move(tx, holds, "rejected", who=who, why=why, now=now)
    _reopen(tx, run)
    return sum(_set_aside(tx, run, state, who, why, now) for state in {hold.waiting for hold in holds})


def show(tx: Connection, holds: Sequence[Hold]) -> None:
    """Note that a person is shown these gates as they are."""
    for hold in holds:
        noted = text("UPDATE hold SET shown_hash = :hash WHERE hold_no = :hold")
        tx.execute(noted, {"hash": hold.hash, "hold": hold.hold_no})


def _check_as_shown(tx: Connection, run: Run, holds: Sequence[Hold]) -> None:
    now = {hold.hold_no: hold.hash for hold in asked(tx, run)}
    if any(now.get(hold.hold_no) != hold.hash for hold in holds):
        raise Outdated(f"{OUTDATED}: rowtide approve {run.run_id}")


def what_follows(tx: Connection, run: Run, holds: Sequence[Hold]) -> str:
    """What a person's approval would do, and what a rejection would."""
    states = {hold.waiting.value for hold in holds}
    waiting = "FROM row r WHERE r.run_no = :run AND r.state = :state"
    replaced = f"{waiting} AND EXISTS (SELECT 1 FROM loaded l WHERE l.job = :job AND l.row_key = r.row_key)"
    query = text(f"SELECT (SELECT count(*) {waiting}), (SELECT count(*) {replaced})")
    counted = [tx.execute(query, {"run": run.run_no, "job": run.job, "state": state}).one() for state in states]
    return going_on(holds, sum(rows for rows, _ in counted), sum(replaces for _, replaces in counted))


def _newest(tx: Connection, run: Run) -> dict[str, Hold]:
    """The newest hold at each gate."""
    found = tx.execute(text(f"SELECT {COLUMNS} FROM hold WHERE run_no = :run ORDER BY hold_no"), {"run": run.run_no})
    return {
        gate: Hold(hold_no, gate, state, [Failure(**each) for each in orjson.loads(failures)], *rest)
        for hold_no, gate, state, failures, *rest in found
    }


def _move(
    tx: Connection, holds: Sequence[Hold], after: str, *, who: str | None = None, why: str | None = None, now: datetime
) -> None:
    assert after in HOLDS["asked"]
    decided = text(
        "UPDATE hold SET state = :after, decided_by = :who, decided_at = :now, why = :why "
        "WHERE hold_no = :hold AND state = 'asked'"
    )
    for hold in holds:
        tx.execute(decided, {"after": after, "who": who, "why": why, "now": timestamp(now), "hold": hold.hold_no})


def _set_aside(tx: Connection, run: Run, state: RowState, who: str, why: str | None, now: datetime) -> int:
    """All rows in a state to quarantine, however many: two statements, no list of numbers. Returns how many."""
    assert state in sources_of("quarantine")
    waiting = "run_no = :run AND state = :state AND load_no IS NULL"
    values = {"run": run.run_no, "state": state.value, "who": who, "why": why or "", "now": timestamp(now)}
    noted = "INSERT INTO note (row_no, turn, move, reason, detail, noted_at, who) SELECT row_no, turn"
    tx.execute(text(f"{noted}, 'quarantine', '{REJECTED}', :why, :now, :who FROM row WHERE {waiting}"), values)
    moved = text(f"UPDATE row SET state = '{target_of('quarantine')}', reason = '{REJECTED}' WHERE {waiting}")
    return tx.execute(moved, values).rowcount


def _reopen(tx: Connection, run: Run) -> None:
    tx.execute(text("UPDATE run SET finished_at = NULL WHERE run_no = :run"), {"run": run.run_no})

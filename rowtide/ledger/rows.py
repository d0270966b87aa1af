"""The moves of rows, a page at a time.

Every move is compare-and-set: it names the states it may start from, and all rows of the page make it or none does.
Each function is one or a few statements for the whole page.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from rowtide.agent.agent import RowAt
from rowtide.agent.states import ANSWERING, RowState, state_after, states_before
from rowtide.errors import IllegalMove
from rowtide.intake.admission import Admission
from rowtide.ledger.ledger import Run, fetch_all, insert_rows, is_one_of, list_parameter, to_timestamp
from rowtide.masking import mask_secrets


@dataclass(frozen=True, slots=True)
class MoveReason:
    """One row's move, with its reason and detail."""

    row_no: int
    turn: int
    reason: str
    detail: str = ""


COLUMNS = ", ".join(f"r.{name}" for name in RowAt._fields)
MADE_UP = "made_up"  # of a note: what an emulator says of its reply
BATCHED = (RowState.IN_FLIGHT, RowState.HELD)  # states of rows that belong to a batch
FRESH_CONVERSATION = (
    "conversation_from = turn, tool_calls = 0, corrections = 0, max_tokens_doublings = 0, in_self_check = 0"
)
OF_BATCH = "r.run_no = :run AND r.state = '{state}' AND r.batch_no = :batch"


def admit_rows(
    tx: Connection, run: Run, rows: Sequence[Admission], *, read_before: int, read_after: int, now: datetime
) -> bool:
    """Insert one page of the source's rows. Returns False when another process has already done so."""
    claimed = tx.execute(
        text("UPDATE run SET read_rows = :after WHERE run_no = :run AND read_rows = :before"),
        {"run": run.run_no, "before": read_before, "after": read_after},
    )
    if claimed.rowcount != 1:
        return False
    admitted = [
        (row.row_no, run.run_no, row.row_key, row.row_id, "quarantined" if row.reason else "ready", row.reason)
        for row in rows
    ]
    insert_rows(tx, "row", ["row_no", "run_no", "row_key", "row_id", "state", "reason"], admitted)
    insert_rows(tx, "row_content", ["row_no", "content"], [(row.row_no, row.content) for row in rows])
    _note(tx, "quarantine", [MoveReason(row.row_no, 0, row.reason, row.detail) for row in rows if row.reason], now)
    return True


def keys_present(tx: Connection, run: Run, keys: Sequence[str]) -> set[str]:
    """Return those of `keys` that this run has already admitted."""
    query = text(f"SELECT row_key FROM row WHERE run_no = :run AND row_key {is_one_of(tx, 'keys', kind='text')}")
    return set(tx.execute(query, {"run": run.run_no, "keys": list_parameter(keys)}).scalars())


def route_rows(tx: Connection, run: Run, tier: int) -> int:
    """Give every ready row without a tier this one. Returns how many."""
    return tx.execute(
        text("UPDATE row SET tier = :tier WHERE run_no = :run AND state = 'ready' AND tier IS NULL"),
        {"tier": tier, "run": run.run_no},
    ).rowcount


def count_by_state(tx: Connection, run: Run) -> dict[RowState, int]:
    """Count the rows in each state; states without rows count 0."""
    query = text("SELECT state, count(*) FROM row WHERE run_no = :run GROUP BY state")
    found = {RowState(state): count for state, count in tx.execute(query, {"run": run.run_no})}
    return {state: found.get(state, 0) for state in RowState}


def rows_page(
    tx: Connection, run: Run, state: RowState, *, after: int, limit: int, last: int = 2**62, begun: bool | None = None
) -> list[RowAt]:
    """Return the next rows in `state` up to `last`; with `begun`, only those that have, or have not, had a turn."""
    only = {None: "", True: "AND r.turn > 0 ", False: "AND r.turn = 0 "}[begun]
    query = (
        f"SELECT {COLUMNS} FROM row r WHERE r.run_no = :run AND r.state = :state AND r.row_no > :after "
        f"AND r.row_no <= :last AND r.tier IS NOT NULL {only}ORDER BY r.row_no LIMIT :limit"
    )
    values = {"run": run.run_no, "state": state.value, "after": after, "last": last, "limit": limit}
    return list(map(RowAt._make, fetch_all(tx, query, values)))


def rows_in_batch(tx: Connection, batch_no: int, row_nos: Sequence[int]) -> dict[int, RowAt]:
    """Return those of `row_nos` that still wait for this batch's reply, by row_no."""
    query = (
        f"SELECT {COLUMNS} FROM row r WHERE r.row_no {is_one_of(tx, 'rows')} AND r.batch_no = :batch "
        "AND r.state = 'in_flight'"
    )
    values = {"rows": list_parameter(row_nos), "batch": batch_no}
    return {each[0]: RowAt._make(each) for each in fetch_all(tx, query, values)}


def rows_waiting_for_batch(tx: Connection, run: Run, batch_no: int) -> list[RowAt]:
    """Return all rows that still wait for this batch's reply: few or none, once its results are filed."""
    query = text(f"SELECT {COLUMNS} FROM row r WHERE {OF_BATCH.format(state='in_flight')}")
    return [RowAt(*each) for each in tx.execute(query, {"run": run.run_no, "batch": batch_no})]


def put_in_batch(tx: Connection, batch_no: int, row_nos: Sequence[int]) -> None:
    """Put ready rows into a batch that is being packed."""
    move_rows_alike(tx, "submit", row_nos, "batch_no = :batch", batch=batch_no)


def recall_rows(tx: Connection, row_nos: Sequence[int], *, pardon: bool = False) -> None:
    """Return rows to ready that the API did not answer, through no fault of theirs; `pardon` clears bounces too."""
    move_rows_alike(tx, "recall", row_nos, "batch_no = NULL, reason = NULL" + (", bounces = 0" if pardon else ""))


def repeat_calls(tx: Connection, move_reasons: Sequence[MoveReason], *, now: datetime) -> None:
    """Return rows to ready whose live call may have been answered without our knowing."""
    _move_remarked(tx, "recall", move_reasons, "batch_no = NULL, reason = NULL", now)


def recall_rows_of_batch(tx: Connection, run: Run, batch_no: int) -> int:
    """Return the rows of a batch that was never taken, or is given up, to ready. Returns how many."""
    return _move_batch(tx, run, batch_no, "recall", "batch_no = NULL, reason = NULL")


def recall_orphaned_rows(tx: Connection, run: Run) -> int:
    """Return rows to ready that wait for a batch or call that is over; there should be none. Returns how many."""
    return tx.execute(
        text(
            "UPDATE row SET state = 'ready', batch_no = NULL WHERE run_no = :run AND state = 'in_flight' "
            "AND NOT EXISTS (SELECT 1 FROM batch b WHERE b.batch_no = row.batch_no "
            "AND b.state IN ('packing', 'packed', 'posting', 'open'))"
        ),
        {"run": run.run_no},
    ).rowcount


def hold_rows_of_batch(tx: Connection, run: Run, batch_no: int, reason: str) -> int:
    """Hold the rows of an orphaned batch. Returns how many."""
    return _move_batch(tx, run, batch_no, "hold", "reason = :reason", reason)


def return_rows_to_batch(tx: Connection, run: Run, batch_no: int) -> int:
    """Return held rows to in flight: a person found their batch. Returns how many."""
    return _move_batch(tx, run, batch_no, "find", "reason = NULL")


def quarantine_rows_of_batch(tx: Connection, run: Run, batch_no: int, move_reason: str, *, now: datetime) -> int:
    """Quarantine the held rows of a batch that a person gave up. Returns how many."""
    query = text(f"SELECT r.row_no, r.turn, r.reason FROM row r WHERE {OF_BATCH.format(state='held')}")
    found = tx.execute(query, {"run": run.run_no, "batch": batch_no})
    move_reasons = [MoveReason(row_no, turn, reason, move_reason) for row_no, turn, reason in found]
    quarantine_rows(tx, move_reasons, now=now)
    return len(move_reasons)


def bounce_rows(tx: Connection, move_reasons: Sequence[MoveReason], *, now: datetime) -> None:
    """Return rows to ready that the API errored, expired or canceled, and count the bounce."""
    _move_remarked(tx, "bounce", move_reasons, "bounces = bounces + 1", now)


def continue_after_tools(tx: Connection, tool_calls: dict[int, int]) -> None:
    """Return rows whose tools have run (row_no → number of calls) to ready for their next turn."""
    for calls, row_nos in _alike(tool_calls.items()).items():
        move_rows_alike(tx, "continue", row_nos, "tool_calls = tool_calls + :calls", calls=calls)


def correct_rows(tx: Connection, move_reasons: Sequence[MoveReason], *, now: datetime) -> None:
    """Return rows to ready with a correction; the model reads the reason's detail."""
    _move_remarked(tx, "correct", move_reasons, "corrections = corrections + 1, in_self_check = 0", now)


def extend_max_tokens(tx: Connection, move_reasons: Sequence[MoveReason], *, now: datetime) -> None:
    """Ask rows again whose reply was cut, with max_tokens doubled."""
    _move_remarked(tx, "extend_max_tokens", move_reasons, "max_tokens_doublings = max_tokens_doublings + 1", now)


def hold_rows(tx: Connection, move_reasons: Sequence[MoveReason], *, now: datetime) -> None:
    """Hold rows for a person, with the reason."""
    _move_remarked(tx, "hold", move_reasons, "reason = :reason", now)


def escalate_rows(tx: Connection, move_reasons: Sequence[MoveReason], to: Mapping[int, int], *, now: datetime) -> None:
    """Start rows afresh on a higher tier (`to`: row_no → tier)."""
    fresh = f"tier = :tier, {FRESH_CONVERSATION}"
    move_rows(tx, "escalate", [{"row_no": r.row_no, "tier": to[r.row_no]} for r in move_reasons], fresh)
    _note(tx, "escalate", move_reasons, now)


def ask_rows_again(tx: Connection, move_reasons: Sequence[MoveReason], *, now: datetime) -> None:
    """Return rows to ready under the run's present version; the note says what became of their reply."""
    _move_remarked(tx, "restart", move_reasons, "reason = NULL", now)


def begin_self_check(tx: Connection, run: Run, answers: dict[int, bytes]) -> None:
    """Begin a self-check of answers (row_no → JSON) that passed all other checks."""
    move_rows_alike(tx, "check", list(answers), "in_self_check = 1")
    write_answers(tx, run, answers)


def record_answers(tx: Connection, run: Run, answers: dict[int, bytes], *, is_gated: bool = True) -> None:
    """Record answers (row_no → JSON) that passed their rows' own checks; accepted at once unless `is_gated`."""
    move_rows_alike(tx, ANSWERING[is_gated], list(answers), "in_self_check = 0")
    write_answers(tx, run, answers)


def write_answers(tx: Connection, run: Run, answers: dict[int, bytes]) -> None:
    """Store answers as judged under the run's present version, in place of earlier ones."""
    newest = "ON CONFLICT (row_no) DO UPDATE SET content = excluded.content, version_no = excluded.version_no"
    judged = [(row_no, content, run.version_no) for row_no, content in answers.items()]
    insert_rows(tx, "answer", ["row_no", "content", "version_no"], judged, newest)


def accept_rows(tx: Connection, row_nos: Sequence[int]) -> None:
    """Mark rows as verified."""
    move_rows_alike(tx, "accept", row_nos)


def quarantine_rows(tx: Connection, move_reasons: Sequence[MoveReason], *, now: datetime) -> None:
    """Quarantine rows, each with its reason."""
    _move_remarked(tx, "quarantine", move_reasons, "reason = :reason", now)


def move_rows(tx: Connection, name: str, rows: Sequence[Mapping[str, object]], also: str = "") -> None:
    """Apply the move `name` to every row, each with its own values. Raises IllegalMove."""
    if rows:
        moved = tx.execute(text(_moving(name, also, "= :row_no")), list(rows))
        check_moved(name, moved.rowcount, [row["row_no"] for row in rows])


def move_rows_alike(tx: Connection, name: str, row_nos: Sequence[int], also: str = "", **values: object) -> None:
    """Apply the move `name` to all rows with the same values, in one statement. Raises IllegalMove."""
    if row_nos:
        moved = tx.execute(
            text(_moving(name, also, is_one_of(tx, "rows"))), {**values, "rows": list_parameter(row_nos)}
        )
        check_moved(name, moved.rowcount, row_nos)


def _moving(name: str, also: str, which: str) -> str:
    changes = f"state = '{state_after(name).value}'" + (f", {also}" if also else "")
    legal = ", ".join(f"'{state.value}'" for state in states_before(name))
    return f"UPDATE row SET {changes} WHERE row_no {which} AND state IN ({legal})"


def check_moved(name: str, moved: int, row_nos: Sequence[object]) -> None:
    """Raise IllegalMove, so that nothing of the page is committed, unless every row was moved."""
    if moved != len(row_nos):
        raise IllegalMove(
            f"{name!r}: {len(row_nos) - moved} of {len(row_nos)} rows from row {row_nos[0]} on were not "
            f"in {', '.join(states_before(name))}; another process may be working on this run"
        )


def _move_batch(tx: Connection, run: Run, batch_no: int, name: str, also: str, reason: str | None = None) -> int:
    """Apply the move `name` to every row of a batch that can make it, whatever their number. Returns how many."""
    return sum(
        tx.execute(
            text(
                f"UPDATE row AS r SET state = '{state_after(name).value}', {also} WHERE {OF_BATCH.format(state=state)}"
            ),
            {"run": run.run_no, "batch": batch_no, "reason": reason},
        ).rowcount
        for state in (each.value for each in states_before(name) if each in BATCHED)
    )


def _move_remarked(tx: Connection, name: str, move_reasons: Sequence[MoveReason], also: str, now: datetime) -> None:
    """Apply a move to rows, each with its own reason, and note it."""
    for reason, row_nos in _alike((move_reason.row_no, move_reason.reason) for move_reason in move_reasons).items():
        move_rows_alike(tx, name, row_nos, also, reason=reason)
    _note(tx, name, move_reasons, now)


def note_made_up(tx: Connection, notes: Sequence[MoveReason], *, now: datetime) -> None:
    """Note what an emulator says it made up. It moves no row."""
    if notes:
        _note(tx, MADE_UP, notes, now)


def _note(tx: Connection, name: str, move_reasons: Sequence[MoveReason], now: datetime) -> None:
    columns = ["move", "noted_at", "row_no", "turn", "reason", "detail"]
    at = to_timestamp(now)
    insert_rows(
        tx, "note", columns, [(name, at, r.row_no, r.turn, r.reason, mask_secrets(r.detail)) for r in move_reasons]
    )


def _alike(values: Iterable[tuple[int, Any]]) -> dict[Any, list[int]]:
    """Return value → the rows with that value, from (row_no, value)."""
    found: dict[Any, list[int]] = defaultdict(list)
    for row_no, value in values:
        found[value].append(row_no)
    return found

"""Shares a run's work among processes: each is a *worker*, and it *claims* the pieces it works on.

What only one may do at a time (rows in, sending, load, report) needs the run's own lease (`leases`). The rest is cut
into pieces: *shares*, ranges of row numbers whose replies are followed up and judged; ended *batches*, to be fetched
and filed; and the *poll*, held by the one worker that asks the API. A piece is offered once, claimed by one worker,
then released or finished.

A worker's lease is one row that its process keeps renewing, and each of its transactions locks that row. Reaping a
worker deletes the row first: this waits for a transaction the dead worker may still be in, and afterwards it can commit
nothing. So a freed piece has no other owner.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, text

from rowtide.agent.states import RowState
from rowtide.errors import LeaseLost
from rowtide.ledger.leases import LEASE, has_lease_run_out
from rowtide.ledger.ledger import Run, to_timestamp

What = Literal["share", "batch", "poll"]

SHARE_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Worker:
    """This process's worker name in a run, and whether it is the only worker."""

    name: str = "nobody"
    is_alone: bool = True


@dataclass(frozen=True, slots=True)
class Share:
    """The rows from `first` to `last`, claimed by one worker."""

    number: int
    first: int
    last: int


def join_run(tx: Connection, run_id: str, me: str, *, now: datetime) -> None:
    """Register as a worker of the run, if the run exists."""
    tx.execute(
        text("INSERT INTO worker (run_no, holder, until) SELECT run_no, :me, :until FROM run WHERE run_id = :run"),
        {"run": run_id, "me": me, "until": to_timestamp(now + LEASE)},
    )


def renew_worker(tx: Connection, me: str, *, now: datetime) -> None:
    """Extend this worker's lease, and with it its claims."""
    tx.execute(
        text("UPDATE worker SET until = :until WHERE holder = :me"), {"me": me, "until": to_timestamp(now + LEASE)}
    )


def leave_run(tx: Connection, me: str) -> None:
    """Stop being a worker, and free its claims."""
    tx.execute(text("DELETE FROM worker WHERE holder = :me"), {"me": me})
    tx.execute(text("UPDATE claim SET holder = NULL WHERE holder = :me"), {"me": me})


def dead_workers(
    tx: Connection, run_id: str, me: str = "", *, now: datetime, has_run_out: Callable[..., bool] = has_lease_run_out
) -> list[tuple[str, str]]:
    """Return (holder, until) of each other worker whose lease has run out or whose process has ended."""
    query = text("SELECT w.holder, w.until FROM worker w JOIN run USING (run_no) WHERE run_id = :run ORDER BY w.holder")
    found = tx.execute(query, {"run": run_id}).tuples().all()
    return [(holder, until) for holder, until in found if holder != me and has_run_out(holder, until, now=now)]


def reap_worker(tx: Connection, holder: str, until: str) -> bool:
    """Delete a dead worker and free its claims, unless it renewed its lease meanwhile. Returns whether it is gone.

    Call it in a transaction that locks no worker: this may wait for the dead worker's own transaction.
    """
    gone = text("DELETE FROM worker WHERE holder = :holder AND until = :until")
    if not tx.execute(gone, {"holder": holder, "until": until}).rowcount:
        return False
    leave_run(tx, holder)
    return True


def check_still_worker(tx: Connection, run_id: str, me: str) -> None:
    """Lock this worker's row until the transaction ends. Raises LeaseLost when it is gone."""
    held = "" if tx.dialect.name == "sqlite" else " FOR KEY SHARE"
    if tx.execute(text(f"SELECT 1 FROM worker WHERE holder = :me{held}"), {"me": me}).first() is None:
        raise LeaseLost(f"this process was silent for too long, so others took over its share of run {run_id}")


def offer_claims(tx: Connection, run: Run, what: What, numbers: Iterable[int]) -> None:
    """Offer these pieces for claiming; pieces offered before stay as they are."""
    query = text(
        "INSERT INTO claim (run_no, what, number) VALUES (:run, :what, :number) "
        "ON CONFLICT (run_no, what, number) DO NOTHING"
    )
    if values := [{"run": run.run_no, "what": what, "number": number} for number in sorted(numbers)]:
        tx.execute(query, values)


def offer_shares(tx: Connection, run: Run) -> None:
    """Offer all the run's rows that were read so far and not yet offered."""
    query = text(
        "SELECT read_rows, (SELECT count(*) FROM claim c WHERE c.run_no = :run AND c.what = 'share') FROM run "
        "WHERE run_no = :run"
    )
    rows, offered = tx.execute(query, {"run": run.run_no}).one()
    offer_claims(tx, run, "share", range(offered, -(-int(rows) // SHARE_ROWS)))


def claim_next(tx: Connection, run: Run, what: What, me: str, *, after: int = -1) -> int | None:
    """Claim the next free piece after `after`. Returns its number, or None."""
    return _take(tx, run, what, me, after, "")


def claim_share(tx: Connection, run: Run, state: RowState, me: str, *, after: int = -1) -> Share | None:
    """Claim the next free share that has rows in `state`, or return None."""
    number = _take(tx, run, "share", me, after, f"AND {_HAS_ROWS}", state=state.value, before=run.first_row_no)
    if number is None:
        return None
    return Share(number, run.first_row_no + number * SHARE_ROWS + 1, run.first_row_no + (number + 1) * SHARE_ROWS)


def release_claim(tx: Connection, run: Run, what: What, number: int, me: str) -> None:
    """Free a claim for any worker."""
    _update(tx, "UPDATE claim SET holder = NULL WHERE", run, what, number, me)


def finish_claim(tx: Connection, run: Run, what: What, number: int, me: str) -> None:
    """Delete the claim on a piece that is done."""
    _update(tx, "DELETE FROM claim WHERE", run, what, number, me)


def offered_claims(tx: Connection, run: Run, what: What) -> set[int]:
    """Return the pieces that are free or claimed."""
    query = text("SELECT number FROM claim WHERE run_no = :run AND what = :what")
    return set(tx.execute(query, {"run": run.run_no, "what": what}).scalars())


def has_unclaimed_rows(tx: Connection, run: Run, state: RowState) -> bool:
    """Return whether a share that nobody has claimed has rows in `state`."""
    query = text(
        f"SELECT 1 FROM claim c WHERE c.run_no = :run AND c.what = 'share' AND c.holder IS NULL AND {_HAS_ROWS} LIMIT 1"
    )
    values = {"run": run.run_no, "before": run.first_row_no, "state": state.value}
    return tx.execute(query, values).first() is not None


def has_other_workers(tx: Connection, run: Run, me: str) -> bool:
    """Return whether the run has other workers."""
    query = text("SELECT 1 FROM worker WHERE run_no = :run AND holder <> :me LIMIT 1")
    return tx.execute(query, {"run": run.run_no, "me": me}).first() is not None


def are_other_workers_busy(tx: Connection, run: Run, me: str) -> bool:
    """Return whether another worker holds a share, a batch or the run's lease, so that more work may come of it."""
    query = text(
        "SELECT 1 FROM worker w WHERE w.run_no = :run AND w.holder <> :me AND ("
        "EXISTS (SELECT 1 FROM claim c WHERE c.holder = w.holder AND c.what <> 'poll') "
        "OR EXISTS (SELECT 1 FROM run r WHERE r.run_no = :run AND r.lease_holder = w.holder)) LIMIT 1"
    )
    return tx.execute(query, {"run": run.run_no, "me": me}).first() is not None


_HAS_ROWS = (
    "EXISTS (SELECT 1 FROM row r WHERE r.run_no = :run AND r.state = :state "
    f"AND r.row_no BETWEEN :before + c.number * {SHARE_ROWS} + 1 AND :before + (c.number + 1) * {SHARE_ROWS})"
)


def _take(tx: Connection, run: Run, what: What, me: str, after: int, which: str, **values: object) -> int | None:
    skipping = "" if tx.dialect.name == "sqlite" else " FOR UPDATE SKIP LOCKED"
    free = (
        "SELECT c.number FROM claim c WHERE c.run_no = :run AND c.what = :what AND c.number > :after "
        f"AND c.holder IS NULL {which} ORDER BY c.number LIMIT 1{skipping}"
    )
    # MATERIALIZED runs the subquery once; without it PostgreSQL may run it, and lock, for every row.
    query = text(
        f"WITH free AS MATERIALIZED ({free}) UPDATE claim SET holder = :me WHERE run_no = :run AND what = :what "
        "AND number = (SELECT number FROM free) RETURNING number"
    )
    found = tx.execute(query, {**values, "run": run.run_no, "what": what, "me": me, "after": after})
    return found.scalar()


def _update(tx: Connection, how: str, run: Run, what: What, number: int, me: str) -> None:
    tx.execute(
        text(f"{how} run_no = :run AND what = :what AND number = :number AND holder = :me"),
        {"run": run.run_no, "what": what, "number": number, "me": me},
    )

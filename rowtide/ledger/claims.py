"""Who does what of a run that several processes work on: each is a *worker*, and what it has in hand it has *claimed*.

What only one may do at a time (rows in, sending, load, report) is done under the run's own lease (`ledger_leases`).
What many may do is cut into pieces: *shares*, which are ranges of row numbers whose replies are followed up and judged;
*batches* that have ended, to be fetched and filed; and the *poll*: one worker at a time asks the API. A piece is
offered once, claimed by one worker, and given back or withdrawn.

A worker's lease is one row that its process keeps renewing, and every transaction of its holds on to that row. Whoever
buries a worker deletes the row first: that waits for the transaction the dead one may still be in, and from then on it
can commit nothing. So a piece that is free again is nobody's.
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
    """Which of a run's workers a process is, and whether others wait while it works."""

    name: str = "nobody"
    is_alone: bool = True


@dataclass(frozen=True, slots=True)
class Share:
    """The rows from `first` to `last`, in one worker's hands."""

    number: int
    first: int
    last: int


def join_run(tx: Connection, run_id: str, me: str, *, now: datetime) -> None:
    """Become a worker of a run, if there is such a run yet."""
    tx.execute(
        text("INSERT INTO worker (run_no, holder, until) SELECT run_no, :me, :until FROM run WHERE run_id = :run"),
        {"run": run_id, "me": me, "until": to_timestamp(now + LEASE)},
    )


def renew_worker(tx: Connection, me: str, *, now: datetime) -> None:
    """Stay a worker, and keep what is claimed."""
    tx.execute(
        text("UPDATE worker SET until = :until WHERE holder = :me"), {"me": me, "until": to_timestamp(now + LEASE)}
    )


def leave_run(tx: Connection, me: str) -> None:
    """Be a worker no more: what is still in hand is free."""
    tx.execute(text("DELETE FROM worker WHERE holder = :me"), {"me": me})
    tx.execute(text("UPDATE claim SET holder = NULL WHERE holder = :me"), {"me": me})


def dead_workers(
    tx: Connection, run_id: str, me: str = "", *, now: datetime, has_run_out: Callable[..., bool] = has_lease_run_out
) -> list[tuple[str, str]]:
    """The workers of a run but `me` whose lease has run out, or whose process is no more: (holder, until)."""
    query = text("SELECT w.holder, w.until FROM worker w JOIN run USING (run_no) WHERE run_id = :run ORDER BY w.holder")
    found = tx.execute(query, {"run": run_id}).tuples().all()
    return [(holder, until) for holder, until in found if holder != me and has_run_out(holder, until, now=now)]


def reap_worker(tx: Connection, holder: str, until: str) -> bool:
    """Free what a dead worker had in hand, unless it has renewed its lease meanwhile. Returns whether it is gone.

    To be called in a transaction that holds on to no worker: this may wait for the one that the dead one is in.
    """
    gone = text("DELETE FROM worker WHERE holder = :holder AND until = :until")
    if not tx.execute(gone, {"holder": holder, "until": until}).rowcount:
        return False
    leave_run(tx, holder)
    return True


def check_still_worker(tx: Connection, run_id: str, me: str) -> None:
    """Raise LeaseLost unless we are still a worker, and stay one until this transaction ends."""
    held = "" if tx.dialect.name == "sqlite" else " FOR KEY SHARE"
    if tx.execute(text(f"SELECT 1 FROM worker WHERE holder = :me{held}"), {"me": me}).first() is None:
        raise LeaseLost(f"this process was silent for too long, so others took over its share of run {run_id}")


def offer_claims(tx: Connection, run: Run, what: What, numbers: Iterable[int]) -> None:
    """Let these pieces be claimed; those that were offered before stay as they are."""
    query = text(
        "INSERT INTO claim (run_no, what, number) VALUES (:run, :what, :number) "
        "ON CONFLICT (run_no, what, number) DO NOTHING"
    )
    if values := [{"run": run.run_no, "what": what, "number": number} for number in sorted(numbers)]:
        tx.execute(query, values)


def offer_shares(tx: Connection, run: Run) -> None:
    """Offer all the run's rows, as far as they are in, once."""
    query = text(
        "SELECT read_rows, (SELECT count(*) FROM claim c WHERE c.run_no = :run AND c.what = 'share') FROM run "
        "WHERE run_no = :run"
    )
    rows, offered = tx.execute(query, {"run": run.run_no}).one()
    offer_claims(tx, run, "share", range(offered, -(-int(rows) // SHARE_ROWS)))


def claim_next(tx: Connection, run: Run, what: What, me: str, *, after: int = -1) -> int | None:
    """Claim the next free piece. Returns its number, or None when there is none."""
    return _take(tx, run, what, me, after, "")


def claim_share(tx: Connection, run: Run, state: RowState, me: str, *, after: int = -1) -> Share | None:
    """Claim the next free share that has rows in `state`, or None."""
    number = _take(tx, run, "share", me, after, f"AND {_HAS_ROWS}", state=state.value, before=run.first_row_no)
    if number is None:
        return None
    return Share(number, run.first_row_no + number * SHARE_ROWS + 1, run.first_row_no + (number + 1) * SHARE_ROWS)


def release_claim(tx: Connection, run: Run, what: What, number: int, me: str) -> None:
    """Let whoever comes first have it."""
    _update(tx, "UPDATE claim SET holder = NULL WHERE", run, what, number, me)


def finish_claim(tx: Connection, run: Run, what: What, number: int, me: str) -> None:
    """It is done for good."""
    _update(tx, "DELETE FROM claim WHERE", run, what, number, me)


def offered_claims(tx: Connection, run: Run, what: What) -> set[int]:
    """The pieces that can be claimed, or are."""
    query = text("SELECT number FROM claim WHERE run_no = :run AND what = :what")
    return set(tx.execute(query, {"run": run.run_no, "what": what}).scalars())


def has_unclaimed_rows(tx: Connection, run: Run, state: RowState) -> bool:
    """Whether some share that nobody has in hand has rows in `state`."""
    query = text(
        f"SELECT 1 FROM claim c WHERE c.run_no = :run AND c.what = 'share' AND c.holder IS NULL AND {_HAS_ROWS} LIMIT 1"
    )
    values = {"run": run.run_no, "before": run.first_row_no, "state": state.value}
    return tx.execute(query, values).first() is not None


def has_other_workers(tx: Connection, run: Run, me: str) -> bool:
    """Whether we are not the run's only worker."""
    query = text("SELECT 1 FROM worker WHERE run_no = :run AND holder <> :me LIMIT 1")
    return tx.execute(query, {"run": run.run_no, "me": me}).first() is not None


def are_other_workers_busy(tx: Connection, run: Run, me: str) -> bool:
    """Whether another worker has something in hand from which more may come."""
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
    # With MATERIALIZED it is asked once; as a plain subquery PostgreSQL may ask, and lock, again for every row.
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

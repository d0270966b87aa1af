"""Batches in the ledger, and their moves between the states packing, packed, posting, open, filed; or void; or
orphaned.

`posting` records the intent to POST: from then on the API may have the batch, whatever we heard. A batch leaves it with
an api_id that is certainly its own, for `packed` or `void` when the API certainly did not take it, or for `orphaned`
when only a person can find out.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from sqlalchemy import Connection, bindparam, text

from rowtide.errors import IllegalMove
from rowtide.job.run_id import job_of_evals, without_evals
from rowtide.lanes.lane_table import LANES
from rowtide.ledger import claims as ledger_claims
from rowtide.ledger.ledger import Run, take_advisory_lock, to_timestamp
from rowtide.tiers.pricing import MICRO


@dataclass(frozen=True, slots=True)
class Batch:
    batch_no: int
    tag: str
    state: str
    lane: str
    api_id: str | None
    adopted: int
    candidates: str
    not_ours: str
    reserved_micro: int
    fetches: int
    rows: int
    bytes: int
    packed_at: str
    newest_before: str | None
    posted_at: str | None
    unconfirmed_at: str | None
    opened_at: str | None
    cancel_asked_at: str | None
    ended_at: str | None
    filed_at: str | None
    detail: str | None

    @property
    def candidate_ids(self) -> list[str]:
        """The ids of API batches that may be this one."""
        return list(orjson.loads(self.candidates))

    @property
    def foreign_ids(self) -> list[str]:
        """The ids of API batches that looked like this one and were proved to belong to others."""
        return list(orjson.loads(self.not_ours))


_OF_BATCHES = ", ".join(f"'{lane.name}'" for lane in LANES.values() if lane.in_batches)
IN_BATCHES, LIVE_CALLS = f"lane IN ({_OF_BATCHES})", f"lane NOT IN ({_OF_BATCHES})"  # kinds of rows in `batch`
COLUMNS = ", ".join(Batch.__dataclass_fields__)


def begin_packing(tx: Connection, run: Run, tag: str, *, now: datetime) -> int:
    """Insert a batch in state `packing`. Returns its number."""
    return tx.execute(
        text(
            "INSERT INTO batch (run_no, tag, state, packed_at) VALUES (:run, :tag, 'packing', :now) RETURNING batch_no"
        ),
        {"run": run.run_no, "tag": tag, "now": to_timestamp(now)},
    ).scalar_one()


def mark_packed(tx: Connection, batch_no: int, *, rows: int, size: int, reserved_micro: int) -> None:
    """Mark a batch packed: its request body is complete on disk and its worst-case cost is reserved."""
    values = {"rows": rows, "size": size, "reserved": reserved_micro}
    _move(tx, batch_no, "packing", "packed", "rows = :rows, bytes = :size, reserved_micro = :reserved", values)


def record_post_intent(tx: Connection, batch_no: int, *, newest_before: datetime | None, now: datetime) -> None:
    """Commit to posting: from here on the API may have this batch, with a creation time after `newest_before`."""
    values = {"newest": to_timestamp(newest_before) if newest_before else None, "now": to_timestamp(now)}
    _move(tx, batch_no, "packed", "posting", "posted_at = :now, newest_before = :newest, unconfirmed_at = NULL", values)


def return_to_packed(tx: Connection, batch_no: int, detail: str) -> None:
    """Return a batch that the API certainly did not take; the same body can be posted again."""
    _move(tx, batch_no, "posting", "packed", "detail = :detail", {"detail": detail})


def mark_unconfirmed(tx: Connection, batch_no: int, detail: str, *, now: datetime) -> None:
    """Mark that the POST's reply was lost. The first time is kept: from then on the API has had time to list it."""
    changes = "unconfirmed_at = coalesce(unconfirmed_at, :now), detail = :detail"
    _move(tx, batch_no, "posting", "posting", changes, {"detail": detail, "now": to_timestamp(now)})


def record_candidates(tx: Connection, batch_no: int, *, candidates: Iterable[str], foreign: Iterable[str]) -> None:
    """Record which API batches may be this one, and which are certainly not."""
    values = {"ours": orjson.dumps(list(candidates)).decode(), "others": orjson.dumps(list(foreign)).decode()}
    _move(tx, batch_no, "posting", "posting", "candidates = :ours, not_ours = :others", values)


def mark_open(tx: Connection, batch_no: int, api_id: str, *, adopted: bool, now: datetime) -> None:
    """Mark that the API has the batch under this id, from its reply or, if adopted, from the tag in its results."""
    values = {"api": api_id, "adopted": int(adopted), "now": to_timestamp(now)}
    changes = "api_id = :api, adopted = :adopted, opened_at = :now, candidates = '[]'"
    _move(tx, batch_no, "posting", "open", changes, values)


def record_cancel_request(tx: Connection, batch_no: int, *, now: datetime) -> None:
    """Record that we are about to cancel the batch, so its unanswered rows do not count as bounced."""
    _move(tx, batch_no, "open", "open", "cancel_asked_at = :now", {"now": to_timestamp(now)})


def mark_ended(tx: Connection, batch_no: int, *, took_seconds: float | None, now: datetime) -> None:
    """Mark that the batch's results, as far as the API sent them, are on disk. `took_seconds` is by the API's clock."""
    changes = "ended_at = :now, fetches = fetches + 1, took_seconds = :took"
    _move(tx, batch_no, "open", "open", changes, {"now": to_timestamp(now), "took": took_seconds})


def fetch_results_again(tx: Connection, batch_no: int) -> None:
    """Reopen a batch whose results lacked some of its rows, so that they are fetched again."""
    _move(tx, batch_no, "open", "open", "ended_at = NULL", {})


def undo_fetch(tx: Connection, batch_no: int) -> None:
    """Reopen a batch whose fetched file was not a results file; that fetch does not count."""
    _move(tx, batch_no, "open", "open", "ended_at = NULL, fetches = fetches - 1", {})


def mark_filed(tx: Connection, batch_no: int, *, now: datetime) -> None:
    """Mark that every row of the batch has moved on. Only costs that nobody knows stay reserved."""
    _move(tx, batch_no, "open", "filed", "filed_at = :now, reserved_micro = unknown_micro", {"now": to_timestamp(now)})


def keep_cost_reserved(tx: Connection, batch: Batch, *, rows: int) -> None:
    """Keep a batch's worst-case cost reserved for `rows` requests whose cost nobody knows.

    Live calls are left out: their lane keeps a reservation for each call.
    """
    if rows and LANES[batch.lane].in_batches:
        share = -(-batch.reserved_micro * rows // max(batch.rows, 1))
        changed = "UPDATE batch SET unknown_micro = unknown_micro + :share WHERE batch_no = :batch"
        tx.execute(text(changed), {"share": share, "batch": batch.batch_no})


def mark_void(tx: Connection, batch: Batch, detail: str) -> None:
    """Mark that the API certainly never took the batch. The caller recalls its rows in the same transaction."""
    _move(tx, batch.batch_no, batch.state, "void", "detail = :detail, reserved_micro = 0", {"detail": detail})


def mark_orphaned(tx: Connection, batch: Batch, detail: str) -> None:
    """Mark that nobody can say whether the API has the batch. The caller holds its rows in the same transaction."""
    _move(tx, batch.batch_no, batch.state, "orphaned", "detail = :detail", {"detail": detail})


def confirm_batch(tx: Connection, batch: Batch, api_id: str, *, now: datetime) -> None:
    """Open an orphaned batch under the API id a person gave. The caller returns its rows in the same transaction."""
    values = {"api": api_id, "now": to_timestamp(now)}
    _move(
        tx, batch.batch_no, "orphaned", "open", "api_id = :api, opened_at = :now, ended_at = NULL, fetches = 0", values
    )


def abandon_batch(tx: Connection, batch: Batch, detail: str) -> None:
    """Void an orphaned batch that a person gave up. Its reservation stays: the budget counts it as spent."""
    _move(tx, batch.batch_no, "orphaned", "void", "detail = :detail", {"detail": detail})


def batches_in_states(tx: Connection, run: Run, states: Iterable[str]) -> list[Batch]:
    """Return this run's batches in any of `states`, oldest first. Live calls, kept like batches, are left out."""
    query = text(
        f"SELECT {COLUMNS} FROM batch WHERE run_no = :run AND {IN_BATCHES} AND state IN :states ORDER BY batch_no"
    ).bindparams(bindparam("states", expanding=True))
    return [Batch(*each) for each in tx.execute(query, {"run": run.run_no, "states": list(states)})]


def batch_of(tx: Connection, batch_no: int | None) -> Batch | None:
    """Return the batch with this number, or None."""
    found = tx.execute(text(f"SELECT {COLUMNS} FROM batch WHERE batch_no = :batch"), {"batch": batch_no}).first()
    return None if found is None else Batch(*found)


def release_batch(tx: Connection, run: Run, batch_no: int, me: str) -> None:
    """Release a worker's claim on a batch. An open batch can be claimed again, any other cannot."""
    batch = batch_of(tx, batch_no)
    release = ledger_claims.release_claim if batch and batch.state == "open" else ledger_claims.finish_claim
    release(tx, run, "batch", batch_no, me)


def known_api_ids(tx: Connection, api_ids: Collection[str]) -> set[str]:
    """Return those of `api_ids` that a batch of this ledger already has."""
    query = text("SELECT api_id FROM batch WHERE api_id IN :ids").bindparams(bindparam("ids", expanding=True))
    return set(tx.execute(query, {"ids": list(api_ids)}).scalars())


def unconfirmed_row_counts(tx: Connection) -> set[int]:
    """Return the row counts of all batches, of any run, that may be at the API under an id we do not know.

    Takes a lock: no other process gives a batch its count before this transaction ends.
    """
    take_advisory_lock(tx, "counts")
    return set(tx.execute(text("SELECT rows FROM batch WHERE state IN ('packed', 'posting')")).scalars())


def count_cost(tx: Connection, batch_no: int, micro: int) -> None:
    """Add the cost of filed replies, in micro-dollars, to the batch."""
    tx.execute(
        text("UPDATE batch SET cost_micro = cost_micro + :micro WHERE batch_no = :batch"),
        {"micro": micro, "batch": batch_no},
    )


def spent_micro(tx: Connection, run: Run) -> int:
    """Return what the run's replies have cost so far, in micro-dollars."""
    query = text("SELECT coalesce(sum(cost_micro), 0) FROM batch WHERE run_no = :run")
    return int(tx.execute(query, {"run": run.run_no}).scalar_one())


def job_spent_and_reserved_since_micro(tx: Connection, run: Run, since: datetime) -> int:
    """Return what the job's runs and evals on this API have spent since, plus what they may yet, in micro-dollars."""
    query = text(
        "SELECT coalesce(sum(b.cost_micro + b.reserved_micro), 0) FROM batch b JOIN run r ON r.run_no = b.run_no "
        "WHERE r.job IN (:job, :evals) AND r.api = :api AND (coalesce(b.filed_at, b.posted_at, b.packed_at) >= :since "
        "OR b.state IN ('packed', 'posting', 'open'))"
    )
    job = without_evals(run.job)
    values = {"job": job, "evals": job_of_evals(job), "api": run.api, "since": to_timestamp(since)}
    return int(tx.execute(query, values).scalar_one())


def reserved_micro(tx: Connection, run: Run) -> int:
    """Return the worst-case cost still reserved by the run's batches, in micro-dollars."""
    query = text("SELECT coalesce(sum(reserved_micro), 0) FROM batch WHERE run_no = :run")
    return int(tx.execute(query, {"run": run.run_no}).scalar_one())


def left_to_spend_micro(
    tx: Connection, run: Run, day_usd: float | None, *, now: datetime, reserves: bool = False
) -> int | None:
    """Return what the next requests may cost at worst, in micro-dollars; None without a budget limit.

    With `reserves`, no other run of the job can reserve any of it before the transaction ends.
    """
    found = (left_of_run_budget_micro(tx, run), _left_of_day(tx, run, day_usd, now, reserves=reserves))
    return min((left for left in found if left is not None), default=None)


def left_of_run_budget_micro(tx: Connection, run: Run) -> int | None:
    """Return what is left of the run's own budget, in micro-dollars, or None without one."""
    if run.budget_micro is None:
        return None
    return run.budget_micro - spent_micro(tx, run) - reserved_micro(tx, run)


def _left_of_day(tx: Connection, run: Run, day_usd: float | None, now: datetime, *, reserves: bool) -> int | None:
    if day_usd is None:
        return None
    if reserves:
        take_advisory_lock(tx, f"reserve {without_evals(run.job)} {run.api}")
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return round(day_usd * MICRO) - job_spent_and_reserved_since_micro(tx, run, midnight)


def smallest_refused_bytes(tx: Connection, run: Run) -> int | None:
    """Return the smallest body size, in bytes, that the API refused as too large in this run."""
    query = text("SELECT min(bytes) FROM batch WHERE run_no = :run AND state = 'void' AND detail = 'too_large'")
    return tx.execute(query, {"run": run.run_no}).scalar()


def _move(tx: Connection, batch_no: int, before: str, after: str, changes: str, values: Mapping[str, object]) -> None:
    moved = tx.execute(
        text(f"UPDATE batch SET state = :after, {changes} WHERE batch_no = :batch AND state = :before"),
        {**values, "batch": batch_no, "before": before, "after": after},
    )
    if moved.rowcount != 1:
        raise IllegalMove(f"batch {batch_no} is not {before!r}, so it cannot become {after!r}")

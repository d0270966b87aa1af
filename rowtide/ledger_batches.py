"""The life of a batch: packed, posted, open at the API, filed; or void.

`posting` is the intent: once a batch is in it the API may have it, whatever we heard. It leaves that state only
with an api_id, or for `void` when it is certain that the API never took it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import Connection, bindparam, text

from rowtide.errors import IllegalMove
from rowtide.ledger import Run, timestamp


@dataclass(frozen=True, slots=True)
class Batch:
    batch_no: int
    tag: str
    state: str
    api_id: str | None
    adopted: int
    not_ours: str
    rows: int
    bytes: int
    packed_at: str
    posted_at: str | None
    opened_at: str | None
    ended_at: str | None
    filed_at: str | None
    detail: str | None

    @property
    def foreign_ids(self) -> list[str]:
        """Batches that once looked like this one and turned out to be others'."""
        return list(orjson.loads(self.not_ours))


COLUMNS = ", ".join(Batch.__dataclass_fields__)


def begin(tx: Connection, run: Run, tag: str, *, now: datetime) -> int:
    """Begin to pack a batch. Returns its number."""
    return tx.execute(
        text(
            "INSERT INTO batch (run_no, tag, state, packed_at) VALUES (:run, :tag, 'packing', :now) RETURNING batch_no"
        ),
        {"run": run.run_no, "tag": tag, "now": timestamp(now)},
    ).scalar_one()


def intend(tx: Connection, batch_no: int, *, rows: int, size: int, now: datetime) -> None:
    """Commit to posting: from here on the API may have this batch."""
    changes = "rows = :rows, bytes = :size, posted_at = :now"
    _move(tx, batch_no, "packing", "posting", changes, {"rows": rows, "size": size, "now": timestamp(now)})


def opened(tx: Connection, batch_no: int, api_id: str, *, adopted: bool, now: datetime) -> None:
    """The API has it, under this id. An adopted one must still prove itself by its tag."""
    values = {"api": api_id, "adopted": int(adopted), "now": timestamp(now)}
    _move(tx, batch_no, "posting", "open", "api_id = :api, adopted = :adopted, opened_at = :now", values)


def disown(tx: Connection, batch: Batch) -> None:
    """The adopted batch proved to be someone else's: look again."""
    values = {"others": orjson.dumps([*batch.foreign_ids, batch.api_id]).decode()}
    changes = "api_id = NULL, adopted = 0, opened_at = NULL, ended_at = NULL, not_ours = :others"
    _move(tx, batch.batch_no, "open", "posting", changes, values)


def ended(tx: Connection, batch_no: int, *, now: datetime) -> None:
    """Its results are on our disk, whole."""
    _move(tx, batch_no, "open", "open", "ended_at = :now", {"now": timestamp(now)})


def filed(tx: Connection, batch_no: int, *, now: datetime) -> None:
    """Every row of it has moved on."""
    _move(tx, batch_no, "open", "filed", "filed_at = :now", {"now": timestamp(now)})


def void(tx: Connection, batch: Batch, detail: str) -> None:
    """It is certain that the API never took it; the caller recalls its rows in the same transaction."""
    _move(tx, batch.batch_no, batch.state, "void", "detail = :detail", {"detail": detail})


def batches_in(tx: Connection, run: Run, states: Iterable[str]) -> list[Batch]:
    """This run's batches in any of `states`, oldest first."""
    query = text(f"SELECT {COLUMNS} FROM batch WHERE run_no = :run AND state IN :states ORDER BY batch_no").bindparams(
        bindparam("states", expanding=True)
    )
    return [Batch(*each) for each in tx.execute(query, {"run": run.run_no, "states": list(states)})]


def claimed(tx: Connection, api_ids: Collection[str]) -> set[str]:
    """Those of `api_ids` that some batch of this ledger already has."""
    query = text("SELECT api_id FROM batch WHERE api_id IN :ids").bindparams(bindparam("ids", expanding=True))
    return set(tx.execute(query, {"ids": list(api_ids)}).scalars())


def _move(tx: Connection, batch_no: int, before: str, after: str, changes: str, values: Mapping[str, object]) -> None:
    moved = tx.execute(
        text(f"UPDATE batch SET state = :after, {changes} WHERE batch_no = :batch AND state = :before"),
        {**values, "batch": batch_no, "before": before, "after": after},
    )
    if moved.rowcount != 1:
        raise IllegalMove(f"batch {batch_no} is not {before!r}, so it cannot become {after!r}")

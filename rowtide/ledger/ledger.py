"""Opens the ledger, the database that knows where each row is, and keeps its runs.

`with ledger.page() as tx:` is one transaction, undone if the block raises. Moves are in `rows`, `batches`, `loads`.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from rowtide.database_url import database_url
from rowtide.errors import UserMistake, nearest_name
from rowtide.ledger.engine import (
    READS_ONLY,
    create_ledger_engine,
    database_errors_as_ledger_errors,
    make_folder,
    open_transaction,
)
from rowtide.ledger.migrations import migrate, missing_migrations

ROWS_PER_RUN = 10_000_000_000  # row_no = run_no * this + the row's place in the source, from 1

WORTH_A_COPY = 200  # rows

OF_VERSION = ("asking", "judging", "parts")
RUNS = (  # each run with the version it goes on under
    f"SELECT r.*, {', '.join('v.' + name for name in OF_VERSION)}, v.base_prefix FROM run r "
    "JOIN version v ON v.run_no = r.run_no AND v.version_no = r.version_no"
)


@dataclass(frozen=True)
class Run:
    """One run: its row in the ledger, with its present version."""

    run_no: int
    run_id: str
    job: str
    eval_id: str | None
    job_folder: str
    owner: str | None
    runbook: str | None
    version_no: int
    asking: str
    judging: str
    parts: str
    base_prefix: int
    tiers: str
    request: bytes
    servers: str
    api: str
    made_up: int
    source: str
    source_path: str | None
    row_limit: int | None
    lane: str
    chosen_lane: str | None
    lane_why: str | None
    finish_by: str | None
    budget_micro: int | None
    stopped: str | None
    stop_detail: str | None
    next_micro: int | None
    read_rows: int
    started_at: str
    extracted_at: str | None
    finished_at: str | None

    @property
    def first_row_no(self) -> int:
        return self.run_no * ROWS_PER_RUN

    @property
    def last_row_no(self) -> int:
        return self.first_row_no + ROWS_PER_RUN - 1


class Ledger:
    """A ledger at a SQLAlchemy URL, migrated when opened.

    With `outlives_power`, SQLite commits survive a power cut too: they wait for the disk. A transaction waits up to
    `patience_seconds` for a database that is away.
    """

    def __init__(self, url: str, *, outlives_power: bool = False, patience_seconds: float = 0.0) -> None:
        if url.startswith("sqlite:///"):
            make_folder(Path(make_url(url).database or "").parent)
        self.engine = create_ledger_engine(url, outlives_power=outlives_power)
        self.name = self.engine.url.render_as_string(hide_password=True)
        self.patience_seconds = patience_seconds
        self.guards: list[Callable[[Connection], None]] = []
        with self.view() as tx:
            is_current = not missing_migrations(tx)
        if not is_current:
            with self.page() as tx:
                take_advisory_lock(tx, "migrate")  # many workers may be the first to open it
                migrate(tx)

    @contextmanager
    def page(self, *, is_guarded: bool = True, waits: bool = True) -> Generator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises, refused by a guard.

        With `waits` it waits `patience_seconds` for a ledger that is away. Raises LedgerUnavailable, LedgerBroken.
        """
        with (
            database_errors_as_ledger_errors(self.name),
            open_transaction(self.engine, self.name, self.patience_seconds if waits else 0.0) as tx,
        ):
            for guard in self.guards if is_guarded else ():
                guard(tx)
            yield tx
            tx.commit()

    @contextmanager
    def view(self) -> Generator[Connection]:
        """One read-only transaction with a consistent snapshot; it never makes a writer wait."""
        reads = {READS_ONLY: True}
        with (
            database_errors_as_ledger_errors(self.name),
            open_transaction(self.engine, self.name, self.patience_seconds, **reads) as tx,
        ):
            yield tx

    def check(self) -> None:
        """Run the guards; each raises if this process may not write."""
        with self.view() as tx:
            for guard in self.guards:
                guard(tx)

    def close(self) -> None:
        self.engine.dispose()


def ledger_url(url: str | None, home: Path) -> str:
    """Return `url`, or the URL of a SQLite file under `home`. Raises UserMistake for a URL that is no ledger's."""
    if not url:
        return f"sqlite:///{home / 'ledger.db'}"
    found = database_url(url, "ROWTIDE_LEDGER", Path.cwd())
    if found.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserMistake(
            f"a ledger is in SQLite or PostgreSQL, not in {found.get_backend_name()}", key="ROWTIDE_LEDGER"
        )
    return found.render_as_string(hide_password=False)


def to_timestamp(moment: datetime) -> str:
    """Return an aware datetime as the ledger's timestamp: UTC, microseconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_timestamp(stamp: str) -> datetime:
    """Return the aware datetime of a ledger timestamp."""
    return datetime.fromisoformat(stamp)


def is_one_of(tx: Connection, name: str, *, kind: str = "bigint") -> str:
    """Return an SQL `IN` for a list of any length in one parameter (`list_parameter`): thousands cost too much."""
    if tx.dialect.name == "sqlite":
        return f"IN (SELECT value FROM json_each(:{name}))"
    return f"IN (SELECT value::{kind} FROM json_array_elements_text(CAST(:{name} AS json)))"


def list_parameter(values: Collection[int] | Collection[str]) -> str:
    """Return a list as the JSON parameter that `is_one_of` expects."""
    return orjson.dumps(list(values)).decode()


def insert_rows(
    tx: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]], when_there: str = ""
) -> None:
    """Insert rows through the driver itself: SQLAlchemy spends more on each row than the database does."""
    if tx.dialect.name != "sqlite" and len(rows) >= WORTH_A_COPY:
        _copy(tx, table, columns, rows, when_there)
    elif rows:
        places = ", ".join(["?" if tx.dialect.name == "sqlite" else "%s"] * len(columns))
        tx.exec_driver_sql(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) {when_there}", list(rows))


def fetch_all(tx: Connection, query: str, values: Mapping[str, object]) -> Sequence[Any]:
    """Return all rows of a query as the driver's own tuples, which are cheaper than SQLAlchemy's."""
    with tx.execute(text(query), values) as found:
        assert found.cursor is not None
        return found.cursor.fetchall()


def _copy(
    tx: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]], when_there: str
) -> None:
    """Insert by COPY. It has no ON CONFLICT, so rows that may exist go through a temporary table."""
    names, into = ", ".join(columns), f"incoming_{table}" if when_there else table
    if when_there:
        these = f"SELECT {names} FROM {table} WITH NO DATA"
        tx.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {into} ON COMMIT DROP AS {these}")
    cursor: Any = tx.connection.cursor()
    try:
        with cursor, cursor.copy(f"COPY {into} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    except (driver := tx.dialect.loaded_dbapi).Error as error:
        raise DBAPIError.instance(f"COPY {into}", None, error, driver.Error, dialect=tx.dialect) from error
    if when_there:
        tx.exec_driver_sql(f"INSERT INTO {table} ({names}) SELECT {names} FROM {into} {when_there}")
        tx.exec_driver_sql(f"TRUNCATE {into}")


def refresh_statistics(tx: Connection, *tables: str) -> None:
    """Have PostgreSQL analyze tables that grew by a page or a part.

    Its own analyze comes minutes too late: until then it takes them for empty and scans one whole for each row of
    another.
    """
    if tx.dialect.name != "sqlite":
        tx.execute(text(f"ANALYZE {', '.join(tables)}"))


def take_advisory_lock(tx: Connection, what: str) -> None:
    """Lock `what` until this transaction ends. SQLite needs no lock: it has one writer at a time."""
    if tx.dialect.name != "sqlite":
        tx.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))"), {"what": f"rowtide {what}"})


def begin_run(tx: Connection, values: Mapping[str, object], *, now: datetime) -> Run:
    """Insert a run and its first version, or return the run that already has this run_id."""
    names = [*(values.keys() - set(OF_VERSION)), "started_at"]
    given = {**values, "started_at": to_timestamp(now)}
    into = f"INSERT INTO run ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
    tx.execute(text(f"{into} ON CONFLICT (run_id) DO NOTHING"), given)
    first = "SELECT run_no, 0, :asking, :judging, :parts, :started_at FROM run WHERE run_id = :run_id"
    into = f"INSERT INTO version (run_no, version_no, {', '.join(OF_VERSION)}, taken_at) {first}"
    tx.execute(text(f"{into} ON CONFLICT (run_no, version_no) DO NOTHING"), given)
    return find_run(tx, str(values["run_id"]))


def find_run(tx: Connection, run_id: str | None) -> Run:
    """Return the run `run_id`, or the newest run. Raises UserMistake with the nearest known id."""
    if run_id is None:
        if newest := all_runs(tx, limit=1):
            return newest[0]
        raise UserMistake("no run in this ledger yet: `rowtide run JOB` makes one")
    if (found := tx.execute(text(f"{RUNS} WHERE r.run_id = :id"), {"id": run_id}).mappings().first()) is None:
        known = tx.execute(text("SELECT run_id FROM run ORDER BY run_no DESC LIMIT 1000")).scalars().all()
        raise UserMistake(f"no run {run_id!r} in this ledger", meant=nearest_name(run_id, known))
    return _run(found)


def has_run(tx: Connection, run_id: str) -> bool:
    """Return whether the ledger has a run with this id."""
    return tx.execute(text("SELECT 1 FROM run WHERE run_id = :id"), {"id": run_id}).first() is not None


def all_runs(tx: Connection, *, limit: int) -> list[Run]:
    """Return up to `limit` runs, newest first, without those of evals."""
    query = text(f"{RUNS} WHERE r.eval_id IS NULL ORDER BY r.run_no DESC LIMIT {limit:d}")
    return [_run(each) for each in tx.execute(query).mappings()]


def finish_extract(tx: Connection, run: Run, *, now: datetime) -> None:
    _stamp(tx, run, "extracted_at", now)


def finish_run(tx: Connection, run: Run, *, now: datetime) -> None:
    _stamp(tx, run, "finished_at", now)


def continue_run(
    tx: Connection, run_id: str, budget_micro: int | None, owner: str | None = None, runbook: str | None = None
) -> None:
    """Let a stopped run go on. A larger budget replaces its own, or gives it one; a smaller one changes nothing."""
    tx.execute(
        text(
            "UPDATE run SET stopped = NULL, stop_detail = NULL, round_mark = NULL, owner = :owner, runbook = :runbook, "
            "finished_at = CASE WHEN stopped IS NULL THEN finished_at END, "
            "budget_micro = CASE WHEN budget_micro >= coalesce(:budget, 0) THEN budget_micro ELSE :budget END "
            "WHERE run_id = :run"
        ),
        {"budget": budget_micro, "owner": owner, "runbook": runbook, "run": run_id},
    )


def stop_run(tx: Connection, run: Run, why: str, *, next_micro: int | None = None, detail: str | None = None) -> None:
    """Record why the run stops with rows still to send; `next_micro`: what the next request could cost at worst."""
    update = text("UPDATE run SET stopped = :why, next_micro = :next, stop_detail = :detail WHERE run_no = :run")
    tx.execute(update, {"why": why, "next": next_micro, "detail": detail, "run": run.run_no})


def _stamp(tx: Connection, run: Run, column: str, now: datetime) -> None:
    update = text(f"UPDATE run SET {column} = :now WHERE run_no = :run AND {column} IS NULL")
    tx.execute(update, {"now": to_timestamp(now), "run": run.run_no})


def _run(found: RowMapping) -> Run:
    return Run(**{name: found[name] for name in Run.__dataclass_fields__})

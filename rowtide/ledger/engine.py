"""Opens a ledger's database, SQLite or PostgreSQL, and classifies its errors: away for now, or broken.

A transaction waits for a database that is away only at its beginning, where nothing is done yet, and logs that once. A
transaction that breaks off later raises, and the stage is tried again. An error that waiting cannot cure is raised at
once.
"""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from rowtide import clock
from rowtide.errors import RowtideError, WorldError
from rowtide.observing.event_log import logger

READS_ONLY = "rowtide_reads_only"

SQLITE_SETTINGS = (
    "PRAGMA busy_timeout = 5000",  # a second process waits; for how long altogether: `open_transaction`
    "PRAGMA journal_mode = WAL",  # readers (progress, `show`) never wait for the writer
    "PRAGMA synchronous = NORMAL",  # a commit survives kill -9; a power cut may cost the last ones
    "PRAGMA cache_size = -8192",  # 8 MB a connection, whatever the number of rows
    "PRAGMA temp_store = MEMORY",
    "PRAGMA secure_delete = OFF",  # Debian's writes zeros over what a row or an index entry leaves
)
CONNECT = {"connect_timeout": 10}  # seconds; a server that does not answer counts as away
WAIT_FOR_THE_DISK = "PRAGMA synchronous = FULL"


def create_ledger_engine(url: str, *, outlives_power: bool) -> Engine:
    """Return an engine that connects on first use. With `outlives_power`, each SQLite commit waits for the disk."""
    is_sqlite = url.startswith("sqlite")
    engine = create_engine(url) if is_sqlite else create_engine(url, pool_pre_ping=True, connect_args=CONNECT)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _set_up(connection: object, _: object) -> None:
            connection.isolation_level = None  # pyright: ignore[reportAttributeAccessIssue] # ours to begin
            for setting in (*SQLITE_SETTINGS, *([WAIT_FOR_THE_DISK] if outlives_power else [])):
                connection.execute(setting)  # pyright: ignore[reportAttributeAccessIssue] # sqlite3's

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            reads_only = connection.get_execution_options().get(READS_ONLY)
            # A transaction that reads first and writes later would deadlock with another: take the write lock at once.
            connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
            if reads_only:  # starts the snapshot now; a locked database fails here, where the caller waits
                connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").close()

    return engine


PATIENCE_SECONDS = 60.0  # how long a transaction waits; its stage is tried four more times: about ten minutes in all
LOOK_SECONDS = 0.5
# SQLSTATE prefixes: connection errors, too many connections, server restart, lock not granted, standby.
AWAY = ("08", "53300", "57P0", "40001", "40P01", "55P03", "25006")
REFUSED = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")
LOCKED = ("locked", "busy")
BROKEN = ("disk is full", "readonly", "disk I/O error", "unable to open", "not a database", "malformed")

Fault = Literal["away", "broken"]

log = logger(__name__)


class LedgerUnavailable(WorldError):
    """The ledger cannot be reached or is locked. Trying again later may help."""


class LedgerBroken(RowtideError):
    """The ledger cannot be read or written until a person acts. What was committed is kept."""


def classify_database_error(error: DBAPIError) -> Fault | None:
    """Return whether the database is away for now or broken; None when the statement itself is at fault."""
    found: Any = error.orig
    words, state = str(found), getattr(found, "sqlstate", None) or ""
    if type(found).__module__.startswith("sqlite3"):
        if any(each in words for each in LOCKED):
            return "away"
        return "broken" if any(each in words for each in BROKEN) else None
    if state.startswith(AWAY) or error.connection_invalidated:
        return "away"
    if state.startswith(("28", "3D", "531")) or (not state and any(each in words for each in REFUSED)):
        return "broken"
    return "away" if type(found).__name__ in ("OperationalError", "InterfaceError") and not state else None


@contextmanager
def database_errors_as_ledger_errors(name: str) -> Generator[None]:
    """Translate database errors about the ledger `name`. Raises LedgerUnavailable, LedgerBroken."""
    try:
        yield
    except DBAPIError as error:
        first = str(error.orig).strip().partition("\n")[0]
        match classify_database_error(error):
            case "away":
                raise LedgerUnavailable(f"the ledger {name} is out of reach: {first}") from error
            case "broken":
                raise LedgerBroken(f"the ledger {name} cannot be used: {first}") from error
            case None:
                raise


def make_folder(folder: Path) -> None:
    """Create the folder of the ledger's file. Raises LedgerBroken."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerBroken(f"the ledger's folder {folder} cannot be made: {error.strerror}") from error


def open_transaction(engine: Engine, name: str, patience_seconds: float, **options: Any) -> Connection:
    """Return a connection in a transaction; waits for a database that is away. Raises DBAPIError after that."""
    until = clock.monotonic_seconds() + patience_seconds
    while True:
        connection = None
        try:
            connection = engine.connect().execution_options(**options)
            connection.begin()
        except DBAPIError as error:
            if connection is not None:
                connection.close()
            if classify_database_error(error) != "away" or clock.monotonic_seconds() >= until:
                raise
            _UNAVAILABILITY.noticed(name, str(error.orig).strip().partition("\n")[0])
            time.sleep(LOOK_SECONDS)
        else:
            _UNAVAILABILITY.over(name)
            return connection


class _Unavailability:
    """Logs once per process, whichever thread notices, that a ledger is away and that it is back."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def noticed(self, name: str, why: str) -> None:
        with self._lock:
            if name in self._since:
                return
            self._since[name] = clock.monotonic_seconds()
        log.warning("the ledger %s is out of reach (%s); waiting for it", name, why)

    def over(self, name: str) -> None:
        if name not in self._since:
            return
        with self._lock:
            since = self._since.pop(name, None)
        if since is not None:
            log.warning("the ledger %s is there again after %.0f s", name, clock.monotonic_seconds() - since)


_UNAVAILABILITY = _Unavailability()

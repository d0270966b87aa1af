"""The engine of a ledger: SQLite or PostgreSQL. The one place that says what only SQLite understands."""

from sqlalchemy import Connection, Engine, create_engine, event

READS_ONLY = "rowtide_reads_only"

SQLITE_SETTINGS = (
    "PRAGMA journal_mode = WAL",  # readers (progress, `show`) never wait for the writer
    "PRAGMA synchronous = NORMAL",  # a commit survives kill -9; a power cut may cost the last ones
    "PRAGMA busy_timeout = 60000",  # a second process waits its turn
    "PRAGMA cache_size = -8192",  # 8 MB a connection, whatever the number of rows
    "PRAGMA temp_store = MEMORY",
    "PRAGMA secure_delete = OFF",  # Debian's writes zeros over what a row or an index entry leaves
)
WAIT_FOR_THE_DISK = "PRAGMA synchronous = FULL"


def engine_of(url: str, *, outlives_power: bool) -> Engine:
    """Opened when first used; `outlives_power` makes a commit of SQLite's wait for the disk."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _set_up(connection: object, _: object) -> None:
            connection.isolation_level = None  # pyright: ignore[reportAttributeAccessIssue] # ours to begin
            for setting in (*SQLITE_SETTINGS, *([WAIT_FOR_THE_DISK] if outlives_power else [])):
                connection.execute(setting)  # pyright: ignore[reportAttributeAccessIssue] # sqlite3's

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            reads_only = connection.get_execution_options().get(READS_ONLY)
            # A transaction that reads first and writes later would deadlock with another: claim the pen at once.
            connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine

"""The sink for a SQLite or PostgreSQL table: rows upserted by key, each part in one transaction with its record.

The record (`rowtide_loads`, beside the table) makes a part that is loaded again change nothing, and says which columns
the table was given, of what kind.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Column as TableColumn
from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    column,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TypeEngine

from rowtide.errors import UserMistake, WorldError, nearest_name
from rowtide.sinks.columns import KEY, Column, SinkPage, columns_to_add, flat_values
from rowtide.sinks.find_refused_rows import RowByRowWriter, RowsRefused
from rowtide.sinks.sink_formats import flat_table, to_csv
from rowtide.sinks.table_types import TYPES, column_accepts_kind, plain_kind

PAGE = "rowtide_page"
# Classes of SQLSTATE that a row's value can be at fault for: what it is, a constraint, a view's check, how long it is,
# and what a trigger has raised.
OF_A_ROW = ("22", "23", "44", "54", "P0")


class TableSink:
    """A table in SQLite or PostgreSQL, upserted by key."""

    def __init__(self, url: URL, table: str, columns: Sequence[Column]) -> None:
        if url.get_backend_name() not in TYPES:
            words = f"{url.get_backend_name()!r} is no sink; a sql sink is sqlite, postgresql or duckdb"
            raise UserMistake(words, key="sink.url")
        schema, _, name = table.rpartition(".")
        self.location = table_location(url, table)
        self.columns = columns
        self._file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
        self.engine = _engine(url)
        types = TYPES[self.engine.dialect.name]
        metadata = MetaData(schema=schema or None)
        self.table = Table(name, metadata)
        for each in columns:
            kind = types[plain_kind(each.kind)]
            self.table.append_column(TableColumn(each.name, kind, primary_key=each.name == KEY, autoincrement=False))
        self.loads = Table(
            "rowtide_loads",
            metadata,
            TableColumn("sink_table", Text, primary_key=True),
            TableColumn("part", Text, primary_key=True),
            TableColumn("rows", Integer, nullable=False),
            TableColumn("columns", Text, nullable=False),  # JSON: name → kind
        )

    def check(self) -> None:
        """Raise UserMistake when the existing table and the columns to load are incompatible, or the database is out of
        reach.
        """
        if self._file and not self._file.exists():
            return
        try:
            with self.errors_as_mistakes(), self.engine.connect() as tx:
                self._missing(tx)
        except WorldError as error:
            raise UserMistake(str(error)) from None

    @contextmanager
    def writing(self, part: str, *, has_taken: bool = False) -> Generator["TablePart"]:
        """Write a part in one transaction; no other process loads into this table meanwhile."""
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with self.errors_as_mistakes():
                tx = stack.enter_context(self.engine.connect())
                if tx.dialect.name == "postgresql":
                    lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:table, 0))")
                    tx.execute(lock, {"table": f"rowtide {self.table.fullname}"})
                    tx.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))  # a row's fault shows when it is written
                self._prepare(tx)
                begun = TablePart(self, tx, part, has_taken=has_taken)
            yield begun  # what fails meanwhile may be the ledger's

    @contextmanager
    def errors_as_mistakes(self, *, of_rows: bool = False) -> Generator[None]:
        """Turn database errors into UserMistake, without secrets, or into RowsRefused where rows may be at fault."""
        try:
            yield
        except (DBAPIError, self.engine.dialect.loaded_dbapi.Error) as error:  # from COPY come the driver's own
            found = error.orig if isinstance(error, DBAPIError) else error
            words = _first_line(found)
            if of_rows and _is_of_a_row(found):
                raise RowsRefused(words) from None
            if isinstance(found, self.engine.dialect.loaded_dbapi.OperationalError):
                raise WorldError(f"{self.location}: {words}") from None
            raise UserMistake(words, file=self.location) from None

    def _prepare(self, tx: Connection) -> None:
        """Create the table, or add the columns it lacks."""
        missing = self._missing(tx)
        self.loads.create(tx, checkfirst=True)
        if missing is None:
            tx.execute(delete(self.loads).where(self.loads.c.sink_table == self.table.fullname))
            self.table.create(tx)
            return
        quote = tx.dialect.identifier_preparer
        for each in missing:
            kind = self.table.c[each.name].type.compile(tx.dialect)
            tx.exec_driver_sql(
                f"ALTER TABLE {quote.format_table(self.table)} ADD COLUMN {quote.quote(each.name)} {kind}"
            )

    def _missing(self, tx: Connection) -> list[Column] | None:
        """The columns to add to the table; None when there is no table. Raises UserMistake for an incompatible one."""
        found, schema = inspect(tx), self.table.schema
        if schema is not None and not found.has_schema(schema):
            known = found.get_schema_names()
            raise UserMistake(
                f"no schema {schema!r}", file=self.location, key="sink.table", meant=nearest_name(schema, known)
            )
        if not found.has_table(self.table.name, schema):
            return None
        present = {str(each["name"]): each["type"] for each in found.get_columns(self.table.name, schema)}
        before = self._recorded(tx)
        new = columns_to_add(before, self.columns, sink=self.location) if before else []  # somebody else made the table
        for each in self.columns:
            if each not in new:
                self._check_column(each, present, tx.dialect.name)
        self._try_upsert(tx)
        return new

    def _try_upsert(self, tx: Connection) -> None:
        """Upsert no row at all. Raises UserMistake when the key is not unique or the table is not writable."""
        key = self.table.c[KEY]
        nothing = select(key).where(literal_column("1 = 0"))
        dialect = {"sqlite": sqlite, "postgresql": postgresql}[tx.dialect.name]
        try:
            tx.execute(
                dialect.insert(self.table).from_select([KEY], nothing).on_conflict_do_nothing(index_elements=[KEY])
            )
        except DBAPIError as error:
            words = f"rows cannot be upserted by {KEY}, its primary key: {_first_line(error.orig)}"
            raise UserMistake(words, file=self.location) from None

    def _recorded(self, tx: Connection) -> dict[str, str]:
        """The columns ever loaded into this table: name → kind."""
        if not inspect(tx).has_table(self.loads.name, self.table.schema):
            return {}
        query = select(self.loads.c.columns).where(self.loads.c.sink_table == self.table.fullname).distinct()
        return {name: kind for columns in tx.scalars(query) for name, kind in orjson.loads(columns).items()}

    def _check_column(self, column: Column, present: Mapping[str, TypeEngine[Any]], dialect: str) -> None:
        name = column.name
        if name not in present:
            words = f"the table has no column {name!r}; it has {', '.join(present)}"
            raise UserMistake(words, file=self.location, meant=nearest_name(name, present))
        kind = present[name]
        if not column_accepts_kind(kind, column.kind, dialect):
            words = f"is {kind} there and {column.kind} in the answer, which it would alter: load into another table"
            raise UserMistake(words, file=self.location, key=name)


class TablePart:
    """A part that is being written."""

    def __init__(self, sink: TableSink, tx: Connection, part: str, *, has_taken: bool) -> None:
        self._writing = RowByRowWriter(self._write, sink.location, has_taken)
        self._sink, self._tx, self._part, self._rows = sink, tx, part, 0
        self._is_loaded = self._stands(part)
        self._put = {"sqlite": self._write_many, "postgresql": self._copy}[tx.dialect.name]
        if not self._is_loaded and tx.dialect.name == "postgresql":
            like = select(sink.table).where(literal_column("1 = 0")).compile(dialect=tx.dialect)
            tx.exec_driver_sql(f"CREATE TEMP TABLE {PAGE} ON COMMIT DROP AS {like}")

    def keys_held(self, part: str, keys: set[str]) -> set[str]:
        """All of the keys, or none: a part exists whole or not at all."""
        with self._sink.errors_as_mistakes():
            return keys if self._stands(part) else set()

    def write(self, page: SinkPage) -> dict[int, str]:
        if self._is_loaded:
            return {}
        refused = self._writing.page(page)
        self._rows += len(page) - len(refused)
        return refused

    def _write(self, page: SinkPage) -> None:
        with self._sink.errors_as_mistakes(of_rows=True), self._tx.begin_nested():
            self._put(page)

    def finish(self, _: Mapping[str, set[str]]) -> None:
        """Commit. The upserts have already replaced older rows."""
        with self._sink.errors_as_mistakes():
            if not self._is_loaded:
                columns = orjson.dumps({each.name: each.kind for each in self._sink.columns}).decode()
                place = {"sink_table": self._sink.table.fullname, "part": self._part}
                self._tx.execute(insert(self._sink.loads).values(**place, rows=self._rows, columns=columns))
            self._tx.commit()

    def take_out(self, parts: Mapping[str, set[str]]) -> None:
        """Delete rows (part → keys)."""
        for keys in parts.values():  # of one page at most
            self._tx.execute(delete(self._sink.table).where(self._sink.table.c[KEY].in_(sorted(keys))))
        self._tx.commit()

    def _stands(self, part: str) -> bool:
        loads = self._sink.loads.c
        query = select(loads.rows).where(loads.sink_table == self._sink.table.fullname, loads.part == part)
        return self._tx.execute(query).first() is not None

    def _write_many(self, page: SinkPage) -> None:
        # Parameters by number: SQLAlchemy makes one name of the columns `a b` and `a.b`.
        numbered = {each.name: bindparam(f"value_{n}") for n, each in enumerate(self._sink.columns)}
        statement = sqlite.insert(self._sink.table).values(numbered)
        changes = {name: statement.excluded[name] for name in page.values if name != KEY}
        upsert = str(
            statement.on_conflict_do_update(index_elements=[KEY], set_=changes).compile(dialect=self._tx.dialect)
        )
        values = [flat_values(each.kind, page.values[each.name]) for each in self._sink.columns]
        self._tx.exec_driver_sql(upsert, list(zip(*values, strict=True)))

    def _copy(self, page: SinkPage) -> None:
        """Copy the page into a temporary table by the fastest way, and upsert it from there."""
        names = [each.name for each in self._sink.columns]
        quote = self._tx.dialect.identifier_preparer.quote_identifier
        quoted = ", ".join(quote(name).replace("%%", "%") for name in names)  # COPY fills in no values
        driver: Any = self._tx.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy(f"COPY {PAGE} ({quoted}) FROM STDIN (FORMAT csv)") as copy:
            copy.write(to_csv(flat_table(self._sink.columns, page), header=False))
        copied = select(table(PAGE, *map(column, names)))
        statement = postgresql.insert(self._sink.table).from_select(names, copied)
        changes = {name: statement.excluded[name] for name in names if name != KEY}
        self._tx.execute(statement.on_conflict_do_update(index_elements=[KEY], set_=changes))
        self._tx.execute(text(f"TRUNCATE {PAGE}"))


def table_location(url: URL, table: str) -> str:
    """Return the location of a table for people and for the ledger, with every password in its URL removed."""
    shown = url.difference_update_query([name for name in url.query if "password" in name])
    return f"{shown.render_as_string(hide_password=True)}#{table}"


def _is_of_a_row(error: BaseException | None) -> bool:
    """Whether a database error may be caused by a row's value."""
    if state := getattr(error, "sqlstate", None):
        return str(state).startswith(OF_A_ROW)
    return type(error).__name__ in ("IntegrityError", "DataError")  # sqlite3's


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        return create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool)
    engine = create_engine(url, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _set_up(connection: object, _: object) -> None:
        connection.isolation_level = None  # pyright: ignore[reportAttributeAccessIssue] # ours to begin
        connection.execute("PRAGMA busy_timeout = 60000")  # pyright: ignore[reportAttributeAccessIssue] # sqlite3's

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # reads first and writes later: claim the pen at once

    return engine

"""The sink for a DuckDB table: rows upserted by key, each part in one transaction with the record of its load.

Lists are lists there, and objects JSON. One process at a time has the file open.
"""

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import orjson
import pyarrow as pa
from sqlalchemy.engine import URL

from rowtide.errors import UserMistake, WorldError, nearest_name
from rowtide.job.answer_fields import LIST_OF
from rowtide.sinks.columns import DECIMAL, KEY, Column, SinkPage, columns_to_add
from rowtide.sinks.find_refused_rows import RowByRowWriter, RowsRefused
from rowtide.sinks.sink_formats import arrow_table
from rowtide.sinks.sink_sql import table_location
from rowtide.sinks.table_types import decimal_fits

TYPES = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "datetime": "TIMESTAMP WITH TIME ZONE",
    "datetime without zone": "TIMESTAMP",
    "decimal": "VARCHAR",  # of any size, so no type is wide enough
    "json": "JSON",
}
# What a table that somebody else made may have, too. DuckDB rounds a number to any column that has fewer places.
TAKES = {
    "text": r"ENUM\(.*\)",
    "integer": r"U?(TINY|SMALL|HUGE)?INT(EGER)?|UBIGINT|DECIMAL\(.*\)",
    "decimal": "VARCHAR",
    "json": "VARCHAR",
}
LOADS = "(sink_table VARCHAR, part VARCHAR, rows BIGINT, columns VARCHAR, PRIMARY KEY (sink_table, part))"
PAGE = "rowtide_page"
OF_A_ROW = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException)  # what a value can be at fault for


class DuckTable:
    """A DuckDB table, upserted by key."""

    def __init__(self, url: URL, table: str, columns: Sequence[Column]) -> None:
        schema, _, name = table.rpartition(".")
        self.location = table_location(url, table)
        self.columns, self.schema, self.table = columns, schema or "main", name
        self.name = f"{quote_name(self.schema)}.{quote_name(name)}"
        self.loads = f"{quote_name(self.schema)}.rowtide_loads"
        self._file = Path(url.database or "")

    def check(self) -> None:
        """Raise UserMistake when the existing table and the columns to load are incompatible."""
        if self._file.is_file():
            with self._connect() as tx:
                self._missing(tx)

    @contextmanager
    def writing(self, part: str, *, has_taken: bool = False) -> Generator["DuckPart"]:
        """Write a part in one transaction; no other process can have the file open meanwhile."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as tx:
            self.begin(tx)
            yield DuckPart(self, tx, part, has_taken=has_taken)

    @contextmanager
    def _connect(self) -> Generator[duckdb.DuckDBPyConnection]:
        try:
            with duckdb.connect(str(self._file)) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                yield connection
        except duckdb.IOException as error:  # another process has the file open
            raise WorldError(f"{self.location}: {error}") from None
        except duckdb.Error as error:
            raise UserMistake(str(error).partition("\n")[0], file=self.location) from None

    def begin(self, tx: duckdb.DuckDBPyConnection) -> None:
        """Begin a transaction, and prepare the table in it."""
        tx.execute("BEGIN")
        self._prepare(tx)

    def _prepare(self, tx: duckdb.DuckDBPyConnection) -> None:
        """Create the table, or add the columns it lacks."""
        missing = self._missing(tx)
        tx.execute(f"CREATE TABLE IF NOT EXISTS {self.loads} {LOADS}")
        if missing is None:
            tx.execute(f"DELETE FROM {self.loads} WHERE sink_table = ?", [self.table])
            defined = [f"{quote_name(each.name)} {duck_type(each.kind)}" for each in self.columns]
            tx.execute(f"CREATE TABLE {self.name} ({', '.join(defined)}, PRIMARY KEY ({KEY}))")
        for each in missing or []:
            tx.execute(f"ALTER TABLE {self.name} ADD COLUMN {quote_name(each.name)} {duck_type(each.kind)}")

    def _missing(self, tx: duckdb.DuckDBPyConnection) -> list[Column] | None:
        """The columns to add to the table; None when there is no table. Raises UserMistake for an incompatible one."""
        schemas = {str(name) for (name,) in tx.execute("SELECT schema_name FROM duckdb_schemas()").fetchall()}
        if self.schema not in schemas:
            meant = nearest_name(self.schema, schemas)
            raise UserMistake(f"no schema {self.schema!r}", file=self.location, key="sink.table", meant=meant)
        present = self._columns(tx, self.table)
        if not present:
            return None
        before: dict[str, str] = {}
        if self._columns(tx, "rowtide_loads"):
            query = f"SELECT DISTINCT columns FROM {self.loads} WHERE sink_table = ?"
            for (columns,) in tx.execute(query, [self.table]).fetchall():
                before |= orjson.loads(columns)
        new = columns_to_add(before, self.columns, sink=self.location) if before else []  # somebody else made the table
        for name, kind in ((each.name, each.kind) for each in self.columns if each not in new):
            if name not in present:
                words = f"the table has no column {name!r}; it has {', '.join(present)}"
                raise UserMistake(words, file=self.location, meant=nearest_name(name, present))
            if not column_accepts_kind(present[name], kind):
                words = (
                    f"is {present[name]} there and {kind} in the answer, which it would alter: load into another table"
                )
                raise UserMistake(words, file=self.location, key=name)
        return new

    def _columns(self, tx: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
        """Name → type, as DuckDB writes it."""
        query = (
            "SELECT column_name, data_type FROM duckdb_columns() "
            "WHERE schema_name = ? AND table_name = ? ORDER BY column_index"
        )
        return dict(tx.execute(query, [self.schema, table]).fetchall())


class DuckPart:
    """A part that is being written."""

    def __init__(self, sink: DuckTable, tx: duckdb.DuckDBPyConnection, part: str, *, has_taken: bool) -> None:
        self._writing = RowByRowWriter(self._write, sink.location, has_taken)
        self._sink, self._tx, self._part = sink, tx, part
        self._written: list[pa.Table] = []
        self._is_loaded = self._stands(part)

    def keys_held(self, part: str, keys: set[str]) -> set[str]:
        """All of the keys, or none: a part exists whole or not at all."""
        return keys if self._stands(part) else set()

    def write(self, page: SinkPage) -> dict[int, str]:
        return {} if self._is_loaded else self._writing.page(page)

    def _write(self, page: SinkPage) -> None:
        rows = arrow_table(self._sink.columns, page)
        try:
            self._upsert(rows)
        except OF_A_ROW as error:  # the transaction is lost, and there are no savepoints: begin again
            self._tx.execute("ROLLBACK")
            self._tx.unregister(PAGE)
            self._sink.begin(self._tx)
            for each in self._written:
                self._upsert(each)
            raise RowsRefused(str(error).partition("\n")[0]) from None
        self._written.append(rows)

    def _upsert(self, rows: pa.Table) -> None:
        names = ", ".join(quote_name(each.name) for each in self._sink.columns)
        changes = ", ".join(
            f"{quote_name(e.name)} = excluded.{quote_name(e.name)}" for e in self._sink.columns if e.name != KEY
        )
        self._tx.register(PAGE, rows)
        insert = f"INSERT INTO {self._sink.name} ({names}) SELECT {names} FROM {PAGE}"
        self._tx.execute(f"{insert} ON CONFLICT ({KEY}) DO UPDATE SET {changes}")
        self._tx.unregister(PAGE)

    def finish(self, _: Mapping[str, set[str]]) -> None:
        """Commit. The upserts have already replaced older rows."""
        if not self._is_loaded:
            columns = orjson.dumps({each.name: each.kind for each in self._sink.columns}).decode()
            place = [self._sink.table, self._part, sum(each.num_rows for each in self._written), columns]
            self._tx.execute(f"INSERT INTO {self._sink.loads} VALUES (?, ?, ?, ?)", place)
        self._tx.execute("COMMIT")

    def take_out(self, parts: Mapping[str, set[str]]) -> None:
        """Delete rows (part → keys)."""
        for keys in parts.values():
            self._tx.execute(f"DELETE FROM {self._sink.name} WHERE {KEY} IN (SELECT unnest(?))", [sorted(keys)])
        self._tx.execute("COMMIT")

    def _stands(self, part: str) -> bool:
        query = f"SELECT 1 FROM {self._sink.loads} WHERE sink_table = ? AND part = ?"
        return self._tx.execute(query, [self._sink.table, part]).fetchone() is not None


def column_accepts_kind(found: str, kind: str) -> bool:
    """Return whether a column of this type holds every value of a kind as it is, or refuses the value; it
    alters none.
    """
    if found == duck_type(kind):
        return True
    if kind.startswith(LIST_OF):
        return found.endswith("[]") and column_accepts_kind(found.removesuffix("[]"), kind.removeprefix(LIST_OF))
    size, there = DECIMAL.fullmatch(kind), DECIMAL.fullmatch(found.lower())
    if size and there:
        return decimal_fits(size, int(there[1]), int(there[2]))
    return bool(re.fullmatch(TAKES.get(kind.partition("(")[0], "(?!)"), found))


def duck_type(kind: str) -> str:
    if kind.startswith(LIST_OF):
        return f"{duck_type(kind.removeprefix(LIST_OF))}[]"
    return TYPES.get(kind) or kind.upper()


def quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

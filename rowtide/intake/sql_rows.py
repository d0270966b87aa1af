"""Reads the rows of an SQL query, no more at once than memory holds.

PostgreSQL is asked not to send a cell longer than any row may be; SQLite, not to read it.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from rowtide.errors import UserMistake
from rowtide.intake.plain_values import UnreadableValue, describe_conversions, plain_row
from rowtide.intake.source_interface import SourceShape, Weighed
from rowtide.intake.source_rows import BadRow, SourceRow
from rowtide.job.job_file import JOB_FILE, line_of_key

FIRST_ROWS = 256
FETCHED_ROWS = 64  # most rows of one fetch
FETCHED_BYTES = 4_000_000  # of one fetch, for rows of like size
SQLITE_CELL_BYTES = 64_000_000
VALUE_BYTES = 64  # Python's overhead for a value
TOO_LONG = "rowtide_too_long"
# PostgreSQL's types of unlimited length: text, varchar, char, bytea; json and xml, which may hold spaces. The number is
# how many times longer than a row they may be.
LONG_TYPES = {25: 1, 1043: 1, 1042: 1, 17: 1, 114: 8, 142: 8, 3802: 8}


class SqlQuery:
    """A query's rows; `url` is complete, and never shown with its password."""

    def __init__(self, url: str, query: str, folder: Path, row_bytes: int) -> None:
        self._url, self._query, self._row_bytes = url, query, row_bytes
        self._shown, self._folder = url_without_password(url), folder
        self._columns: list[str] = []  # known once a row was read

    def shape(self) -> SourceShape:
        """Return the column names, and notes on values in the first rows that are converted. Raises UserMistake."""
        notes = describe_conversions(self._first())
        if not self._columns:
            raise self._mistake("the query finds no row")
        return SourceShape(self._columns, notes)

    def _first(self) -> Iterator[Mapping[str, object]]:
        """Yield the first rows, from which the shape is read."""
        weight = 0
        for row in islice(self.values(), FIRST_ROWS):
            weight += approximate_bytes(row)
            if row is not None:
                yield row
            if weight > FETCHED_BYTES:
                return

    def records(self) -> Weighed:
        """Yield each row as a record, with its approximate size in bytes. Raises UserMistake with the query's place."""
        for number, row in enumerate(self.values(), 1):
            if row is None or (weight := approximate_bytes(row)) > self._row_bytes * 8 + VALUE_BYTES * len(row):
                what = f"more than {self._row_bytes:,} bytes, which is what limits.row_bytes allows"
                yield VALUE_BYTES, BadRow(number, "too_large", what)
            else:
                yield weight, _plain(number, row)

    def values(self) -> Iterator[Mapping[str, object] | None]:
        """Yield each row as the driver gives it; None for a row with a cell longer than any row may be."""
        number = 0
        try:
            engine = create_engine(self._url)
            try:
                with engine.connect().execution_options(stream_results=True) as connection:
                    for row in self._rows(connection):
                        number += 1
                        yield row
            finally:
                engine.dispose()
        except (SQLAlchemyError, ModuleNotFoundError, ValueError, OverflowError) as error:
            words = str(getattr(error, "orig", None) or error).replace(self._url, self._shown)
            after = f" after row {number:,}" if number else ""
            raise self._mistake(f"the query failed{after}: {words}") from None

    def _rows(self, connection: Connection) -> Iterator[Mapping[str, object] | None]:
        query, most = self._query, FETCHED_ROWS
        if connection.dialect.name == "postgresql":
            query = self._without_long_cells(connection)
        elif connection.dialect.name == "sqlite":
            most = 1  # there is no server to wait for
            raw: Any = connection.connection.dbapi_connection
            raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, SQLITE_CELL_BYTES)
        found = connection.execute(text(query))
        names, at_once = list(found.keys()), 1
        self._check_names(names)
        while rows := found.fetchmany(at_once):
            weight = 0
            self._columns = [name for name in names if name != TOO_LONG]
            for row in rows:
                values = dict(zip(names, row, strict=True))
                weight += approximate_bytes(values)
                yield None if values.pop(TOO_LONG, False) else values
            fit = at_once * FETCHED_BYTES // max(weight, 1)
            at_once = max(1, min(2 * at_once, fit, most))

    def _without_long_cells(self, connection: Connection) -> str:
        """Return the query rewritten to leave out cells that are too long; unchanged if it cannot be rewritten."""
        inner = f"({self._query.rstrip().rstrip(';')}\n) AS q"
        try:
            probe = connection.execute(text(f"SELECT * FROM {inner} LIMIT 0"))
        except SQLAlchemyError:
            connection.rollback()  # not a valid subquery, or an invalid query, which fails by itself
            return self._query
        description: Any = probe.cursor.description if probe.cursor else ()
        columns = [(each.name, LONG_TYPES.get(each.type_code)) for each in description]
        probe.close()
        self._check_names([name for name, _ in columns])
        if TOO_LONG in dict(columns) or not any(dict(columns).values()):
            return self._query
        cells, tests = [], []
        for name, times in columns:
            cell = f"q.{_quoted(name)}"
            if times:
                is_long = f"octet_length({cell if times == 1 else f'CAST({cell} AS text)'}) > {times * self._row_bytes}"
                tests.append(f"coalesce({is_long}, false)")
                cell = f"CASE WHEN {is_long} THEN NULL ELSE {cell} END AS {_quoted(name)}"
            cells.append(cell)
        return f"SELECT {', '.join(cells)}, {' OR '.join(tests)} AS {TOO_LONG} FROM {inner}"

    def _check_names(self, names: list[str]) -> None:
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise self._mistake(f"the query gives two columns the name {twice!r}; give one another name with AS")

    def _mistake(self, what: str) -> UserMistake:
        line = line_of_key(self._folder, "source", "query") if (self._folder / JOB_FILE).is_file() else None
        place = f"{self._folder / JOB_FILE}" if line else self._shown
        return UserMistake(what if not line else f"{self._shown}: {what}", file=place, line=line, key="source.query")


def approximate_bytes(value: object) -> int:
    """Return a value's approximate size in bytes, with all it contains."""
    match value:
        case str() | bytes() | bytearray() | memoryview():
            return VALUE_BYTES + len(value)
        case Mapping():
            return VALUE_BYTES + sum(VALUE_BYTES + approximate_bytes(each) for each in value.values())
        case list() | tuple():
            return VALUE_BYTES + sum(map(approximate_bytes, value))
        case _:
            return VALUE_BYTES


def url_without_password(url: str) -> str:
    """Return a database URL as it may be shown."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.partition(":")[0] + "://…"


def _quoted(name: str) -> str:
    """Return a column name quoted for PostgreSQL, and escaped for SQLAlchemy's text."""
    return '"{}"'.format(name.replace('"', '""').replace(":", "\\:"))


def _plain(number: int, values: Mapping[str, object]) -> SourceRow | BadRow:
    try:
        return SourceRow(number, plain_row(values))
    except UnreadableValue as error:
        return BadRow(number, "unreadable_value", str(error))

"""Profiles a source: reads it once as a run would, and has DuckDB count what each column holds.

Memory holds a sample; the rest lies on disk, as text under numbered names, until the profile is made.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import orjson

from rowtide.errors import UserMistake
from rowtide.intake.plain_values import plain_value
from rowtide.intake.source_interface import Source
from rowtide.intake.source_rows import BadRow, SourceRow
from rowtide.stages.create_job.column_kinds import (
    ALMOST,
    MOST_LOOKUP,
    ColumnProfile,
    Kind,
    key_candidates,
    kind_of,
    looks_identifying,
    looks_personal,
    pair_candidates,
)

SAMPLE_ROWS = 2000  # from which kinds are told, and rows chosen to try and to label
SAMPLE_BYTES = 64_000_000
REPEATED = 3  # times that a value of a lookup stands on average, at least
ROOM = 1 << 20
SETTINGS: dict[str, Any] = {"autoinstall_known_extensions": False, "memory_limit": "512MB", "threads": 2}
BLANKS = "' ' || chr(9) || chr(10) || chr(13) || chr(160)"


@dataclass(frozen=True)
class SourceProfile:
    """What a source holds."""

    columns: Sequence[ColumnProfile]
    rows: int
    bad: Sequence[BadRow]
    """The first of the rows that cannot be read."""
    bad_rows: int
    sample: Sequence[SourceRow]
    """Rows at random, as they were read, in the order of the source."""
    key: tuple[str, ...]
    """The columns that name a row, as far as one can tell; empty where no column and no pair does."""
    repeats: int
    """How many rows have a key that another has too, or none."""

    def named(self, name: str) -> ColumnProfile:
        """The column of this name."""
        return next(each for each in self.columns if each.name == name)


@dataclass
class _Seen:
    """What was seen while the rows were written down."""

    rows: int = 0
    bad_rows: int = 0
    longest: int = ROOM
    bad: list[BadRow] = field(default_factory=list[BadRow])
    sample: list[SourceRow] = field(default_factory=list[SourceRow])


class _Sample:
    """Rows at random, each as likely as another: at most SAMPLE_ROWS, and fewer where they are long."""

    def __init__(self) -> None:
        self.kept: list[tuple[SourceRow, int]] = []
        self._random, self._offered, self._bytes = random.Random(0), 0, 0

    def offer(self, row: SourceRow, size: int) -> None:
        """Keep a row of so many bytes, perhaps in the place of another."""
        self._offered += 1
        if self._offered <= SAMPLE_ROWS and len(self.kept) == self._offered - 1:
            self.kept.append((row, size))
        elif (place := int(self._random.random() * self._offered)) < len(self.kept):
            self._bytes -= self.kept[place][1]
            self.kept[place] = row, size
        else:
            return
        self._bytes += size
        while self._bytes > SAMPLE_BYTES and len(self.kept) > 1:
            self._bytes -= self.kept.pop(int(self._random.random() * len(self.kept)))[1]


def profile_source(
    source: Source, key: Sequence[str] | None, scratch: Path, progress: Callable[[int], None]
) -> SourceProfile:
    """Profile a source. `key`: the columns that somebody says name a row. Raises UserMistake where no row can be read.

    What memory should not hold lies in `scratch` meanwhile. `progress` is told how many rows were read, every 100,000.
    """
    names = list(source.shape().columns)
    with TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "rows.jsonl"
        seen = _write_down(source, names, file, progress)
        if not seen.rows:
            raise UserMistake(_why_no_rows(seen))
        with duckdb.connect(str(Path(folder) / "rows.db"), config={**SETTINGS, "temp_directory": folder}) as connection:
            table = _Table(connection, names, file, seen.longest)
            columns = [_profiled(table, place, seen.sample) for place in range(len(names))]
            chosen, repeats = _key(table, columns, seen.rows, key)
    return SourceProfile(columns, seen.rows, seen.bad, seen.bad_rows, seen.sample, chosen, repeats)


def _write_down(source: Source, names: Sequence[str], file: Path, progress: Callable[[int], None]) -> _Seen:
    """Write each row to a file, and keep a sample: of all rows, each as likely as another."""
    seen, sample = _Seen(), _Sample()
    numbered = [f"c{place}" for place in range(len(names))]
    with file.open("wb") as out:
        for row in _rows(source, seen):
            values = dict(zip(numbered, map(row.values.get, names), strict=True))
            size = out.write(orjson.dumps(values, plain_value, orjson.OPT_APPEND_NEWLINE))
            seen.longest, seen.rows = max(seen.longest, size), seen.rows + 1
            sample.offer(row, size)
            if seen.rows % 100_000 == 0:
                progress(seen.rows)
    seen.sample = sorted((row for row, _ in sample.kept), key=lambda row: row.line)
    return seen


def _why_no_rows(seen: _Seen) -> str:
    if not seen.bad:
        return "has columns, but no rows yet; a job is made from some"
    return f"none of its {seen.bad_rows:,} rows can be read: line {seen.bad[0].line}: {seen.bad[0].detail}"


def _rows(source: Source, seen: _Seen) -> Iterator[SourceRow]:
    for _, record in source.records():
        if isinstance(record, SourceRow):
            yield record
        else:
            seen.bad_rows += 1
            seen.bad = [*seen.bad, record][:3]


class _Table:
    """The rows as a table of texts, whose blanks are NULL, with what SUMMARIZE says of its columns."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, names: Sequence[str], file: Path, longest: int) -> None:
        self._connection, self.names = connection, names
        kinds = ", ".join(f"c{place}: 'VARCHAR'" for place in range(len(names)))
        texts = ", ".join(f"nullif(trim(c{place}, {BLANKS}), '') AS c{place}" for place in range(len(names)))
        connection.execute(
            f"CREATE TABLE rows AS SELECT {texts} FROM read_json(?, columns = {{{kinds}}}, "
            f"format = 'newline_delimited', maximum_object_size = {longest + 1})",
            [str(file)],
        )
        found = connection.execute("SUMMARIZE rows")
        heads = [each[0] for each in found.description or ()]
        self.summary = [dict(zip(heads, line, strict=True)) for line in found.fetchall()]
        counted = ", ".join(f"count(c{n}), max(length(c{n}))" for n in range(len(names)))
        self.counts = connection.execute(f"SELECT {counted} FROM rows").fetchone() or ()

    def commonest(self, place: int) -> list[tuple[str, int]]:
        """The column's values with how often each stands, the commonest first."""
        asked = f"SELECT c{place}, count(*) FROM rows WHERE c{place} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 99"
        return self._connection.execute(asked).fetchall()

    def distinct(self, columns: Sequence[str]) -> int:
        """How many rows differ in these columns, of those in which all of them are filled."""
        places = ", ".join(f"c{self.names.index(each)}" for each in columns)
        where = " AND ".join(f"c{self.names.index(each)} IS NOT NULL" for each in columns)
        found = self._connection.execute(f"SELECT count(*) FROM (SELECT DISTINCT {places} FROM rows WHERE {where})")
        return int((found.fetchone() or (0,))[0])


def _profiled(table: _Table, place: int, sample: Sequence[SourceRow]) -> ColumnProfile:
    name = table.names[place]
    filled, longest = int(table.counts[2 * place]), int(table.counts[2 * place + 1] or 0)
    values = [value for row in sample if (value := row.values.get(name)) is not None]
    texts = [text for value in values if (text := str(value).strip())]
    kind: Kind = kind_of(texts) if filled else "empty"
    distinct = min(int(table.summary[place]["approx_unique"]), filled)
    common: tuple[str, ...] = ()
    if distinct <= 2 * MOST_LOOKUP and distinct * REPEATED <= filled:
        counted = table.commonest(place)
        distinct = len(counted)
        common = tuple(value for value, _ in counted) if distinct <= MOST_LOOKUP else ()
    is_text = all(isinstance(value, str) for value in values)
    return ColumnProfile(name, kind, filled, distinct, longest, is_text, common, looks_personal(name, texts))


def _key(
    table: _Table, columns: list[ColumnProfile], rows: int, wanted: Sequence[str] | None
) -> tuple[tuple[str, ...], int]:
    """The columns that name a row, and how many rows they do not name alone."""
    if wanted:
        return tuple(wanted), rows - table.distinct(wanted)
    for place, each in enumerate(columns):
        if each.filled == rows and each.distinct > 0.8 * rows:  # as SUMMARIZE has it, which is about so
            columns[place] = replace(each, distinct=table.distinct([each.name]))
    candidates = key_candidates(columns, rows)
    almost = [each for each in candidates if looks_identifying(each.name) and each.distinct >= ALMOST * rows]
    exact = [each for each in candidates if each.distinct == rows]
    # An id of which an export repeats some rows names them better than whatever else differs everywhere.
    if best := [*(each for each in exact if each in almost), *almost, *exact][:1]:
        return (best[0].name,), rows - best[0].distinct
    for pair in pair_candidates(columns, rows):
        if table.distinct(pair) == rows:
            return pair, 0
    return (), rows

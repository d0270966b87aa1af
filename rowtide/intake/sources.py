"""Where rows come from: CSV, JSONL, Parquet, SQL, streamed in pages. What came by webhook is in the ledger.

A record that cannot be read becomes a BadRow with its line and reason; the records around it are none the worse. A
source that cannot be read at all is the user's mistake, named with its file.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from rowtide.database_url import database_url
from rowtide.errors import UserMistake, nearest
from rowtide.intake.csv_records import Csv
from rowtide.intake.json_lines import read_json_lines
from rowtide.intake.rows import BadRow, SourceRow
from rowtide.intake.values import Unreadable, conversions, plain_row
from rowtide.job.job import LimitsSpec, SourceSpec
from rowtide.job.job_file import JOB_FILE, line_of

Page = list[SourceRow | BadRow]
Weighed = Iterator[tuple[int, SourceRow | BadRow]]  # each record with about how many bytes it is

INBOX = "inbox:"  # a run's source, where that is not a file but what waits in the inbox
ROW_BYTES = LimitsSpec().row_bytes
ESCAPED = 8  # as JSON writes it, a line may be so many times as long as the row is
PAGE_BYTES = 64_000_000  # a page ends here, however few its rows are
SEEN_ROWS = 1000  # records whose names and kinds are looked at before a run begins
KINDS = {"csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet", "pq": "parquet"}
BATCH_ROWS = 256  # of Parquet and SQL, read at once: a page's end is seen after so many at the latest


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a source before its rows are read."""

    columns: list[str]
    notes: list[str] = field(default_factory=list[str])
    """How it is read, where that is not the usual way, and what becomes of values that no row can hold."""


def read_pages(
    spec: SourceSpec, folder: Path, page_rows: int, environment: Mapping[str, str], row_bytes: int = ROW_BYTES
) -> Iterator[Page]:
    """The source's records in order, so many at a time, or fewer where they are long. Memory holds one page."""
    records, page, weight = _records(spec, folder, environment, row_bytes), Page(), 0
    for bytes_read, record in records:
        page.append(record)
        weight += bytes_read
        if len(page) == page_rows or weight >= PAGE_BYTES:
            yield page
            page, weight = Page(), 0
    if page:
        yield page


def columns(spec: SourceSpec, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """The source's columns: a CSV's header, a table's fields, the names in a JSONL file's first records."""
    return shape_of(spec, folder, environment).columns


def shape_of(spec: SourceSpec, folder: Path, environment: Mapping[str, str]) -> Shape:
    """The source's columns and what is to be said of how it is read. Raises UserMistake where it cannot be."""
    if spec.inbox is not None:
        return Shape(spec.inbox)
    if spec.url is not None:
        seen = list(islice(_Sql(spec, folder, environment).values(), BATCH_ROWS))
        if not seen:
            raise UserMistake("the query finds no row", file=describe(spec, folder), key="source.query")
        return Shape(list(seen[0]), conversions(seen))
    file = _file(spec, folder)
    kind = _kind(spec, file)
    if kind == "csv":
        names, notes = Csv(file, spec, ROW_BYTES * ESCAPED).header()
        return Shape(names, [each for each in notes if each])
    if kind == "parquet":
        parquet = _parquet(file)
        return Shape(list(parquet.schema_arrow.names), conversions(_first_of(parquet)))
    first = list(islice(read_json_lines(file, spec.encoding, ROW_BYTES * ESCAPED), SEEN_ROWS))
    read = [record.values for _, record in first if isinstance(record, SourceRow)]
    if not read:
        bad = next((record for _, record in first if isinstance(record, BadRow)), None)
        why = f": line {bad.line}: {bad.detail}" if bad else ""
        raise UserMistake(f"holds no record that can be read{why}", file=describe(spec, folder))
    return Shape(list(dict.fromkeys(chain.from_iterable(read))))


def source_of(own: SourceSpec, path: str | None, folder: Path, environment: Mapping[str, str]) -> SourceSpec:
    """The job's own source, or what was given instead. Rows of the inbox have the columns of the job's own."""
    if path is None:
        return own
    if path == INBOX:
        return SourceSpec(inbox=columns(own, folder, environment))
    told = own.model_dump(include={"encoding", "delimiter", "quote", "escape", "skip_spaces"}, exclude_unset=True)
    return SourceSpec(path=Path(path).resolve(), **told)


def describe(spec: SourceSpec, folder: Path) -> str:
    """The source's name for people; never a password."""
    if spec.inbox is not None:
        return "inbox"
    if spec.url is not None:
        return _without_password(spec.url)
    file = folder / (spec.path or "")
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def expand(value: str, environment: Mapping[str, str]) -> str:
    """Replace each `${NAME}` from the environment. Raises UserMistake for a name that is not set."""

    def known(found: re.Match[str]) -> str:
        if found[1] not in environment:
            raise UserMistake(f"{found[1]} is not set in the environment", meant=nearest(found[1], environment))
        return environment[found[1]]

    return re.sub(r"\$\{(\w+)\}", known, value)


def _file(spec: SourceSpec, folder: Path) -> Path:
    file = folder / (spec.path or "")
    if file.is_dir():
        raise UserMistake("is a folder; a source is one file", file=file)
    if not file.is_file():
        beside = [each.name for each in file.parent.glob("*")] if file.parent.is_dir() else []
        raise UserMistake("no such source", file=file, meant=nearest(file.name, beside))
    if file.stat().st_size == 0:
        raise UserMistake("the source is empty", file=file)
    return file


def _kind(spec: SourceSpec, file: Path) -> str:
    kind = spec.kind or KINDS.get(file.suffix[1:].lower())
    if kind is None:
        words = f"no reader for {file.suffix!r}; say `source.kind`: {', '.join(dict.fromkeys(KINDS.values()))}"
        raise UserMistake(words, file=file)
    return kind


def _records(spec: SourceSpec, folder: Path, environment: Mapping[str, str], row_bytes: int) -> Weighed:
    if spec.inbox is not None:
        raise UserMistake("rows come by webhook, and none are there to be read before a run takes them", key="source")
    if spec.url is not None:
        return _Sql(spec, folder, environment).records()
    file = _file(spec, folder)
    match _kind(spec, file):
        case "csv":
            return Csv(file, spec, row_bytes * ESCAPED).records()
        case "jsonl":
            return read_json_lines(file, spec.encoding, row_bytes * ESCAPED)
        case _:
            return _read_parquet(file)


def _read_parquet(file: Path) -> Weighed:
    number = 0
    try:
        for batch in _parquet(file).iter_batches(batch_size=BATCH_ROWS):
            for row in _rows_of(batch):
                number += 1
                yield batch.nbytes // len(batch), _plain(number, row)
    except pa.ArrowException as error:
        raise UserMistake(f"row {number + 1:,} cannot be read: {error}", file=file) from None


def _rows_of(batch: pa.RecordBatch) -> Iterator[Mapping[str, object] | str]:
    """A batch's rows; of one with a value that Python has no room for, what is wrong with it."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        for number in range(len(batch)):
            yield _row_of(batch, number)


def _row_of(batch: pa.RecordBatch, number: int) -> Mapping[str, object] | str:
    found: dict[str, object] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            found[name] = column[number].as_py()
        except (ValueError, OverflowError, pa.ArrowException) as error:
            return f"column {name!r}: {error}"
    return found


def _first_of(parquet: pq.ParquetFile) -> list[Mapping[str, object]]:
    batch = next(parquet.iter_batches(batch_size=BATCH_ROWS), None)
    return [] if batch is None else [row for row in _rows_of(batch) if not isinstance(row, str)]


def _plain(number: int, values: Mapping[str, object] | str) -> SourceRow | BadRow:
    if isinstance(values, str):
        return BadRow(number, "unreadable_value", values)
    try:
        return SourceRow(number, plain_row(values))
    except Unreadable as error:
        return BadRow(number, "unreadable_value", str(error))


def _parquet(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise UserMistake(f"not a Parquet file: {error}", file=file) from None


class _Sql:
    """A query's rows."""

    def __init__(self, spec: SourceSpec, folder: Path, environment: Mapping[str, str]) -> None:
        assert spec.url is not None
        url = database_url(expand(spec.url, environment), "source.url", folder, keeps=False)
        self._url, self._query = url.render_as_string(hide_password=False), spec.query or ""
        self._shown, self._folder = _without_password(self._url), folder

    def records(self) -> Weighed:
        """Each row as a record."""
        for number, row in enumerate(self.values(), 1):
            yield sum(len(each) for each in row.values() if isinstance(each, str | bytes)), _plain(number, row)

    def values(self) -> Iterator[Mapping[str, object]]:
        """Each row as the driver gives it. Raises UserMistake with the query's place in the job."""
        number = 0
        try:
            engine = create_engine(self._url)
            try:
                with engine.connect().execution_options(yield_per=BATCH_ROWS) as connection:
                    found = connection.execute(text(self._query))
                    names = list(found.keys())
                    self._check_names(names)
                    for row in found:
                        number += 1
                        yield dict(zip(names, row, strict=True))
            finally:
                engine.dispose()
        except (SQLAlchemyError, ModuleNotFoundError, ValueError, OverflowError) as error:
            words = str(getattr(error, "orig", None) or error).replace(self._url, self._shown)
            after = f" after row {number:,}" if number else ""
            raise self._mistake(f"the query failed{after}: {words}") from None

    def _check_names(self, names: list[str]) -> None:
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise self._mistake(f"the query gives two columns the name {twice!r}; give one another name with AS")

    def _mistake(self, what: str) -> UserMistake:
        line = line_of(self._folder, "source", "query") if (self._folder / JOB_FILE).is_file() else None
        place = f"{self._folder / JOB_FILE}" if line else self._shown
        return UserMistake(what if not line else f"{self._shown}: {what}", file=place, line=line, key="source.query")


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.partition(":")[0] + "://…"

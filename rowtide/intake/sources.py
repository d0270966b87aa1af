"""Where rows come from: CSV, JSONL, Parquet, SQL, streamed in pages. What came by webhook is in the ledger.

A record that cannot be read becomes a BadRow with its line and reason; the records around it are none the worse. A
source that cannot be read at all is the user's mistake, named with its file.
"""

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from rowtide.errors import UserMistake, nearest
from rowtide.intake.rows import BadRow, SourceRow
from rowtide.job.job import SourceSpec

Page = list[SourceRow | BadRow]

# A cell may be as large as a file allows; the admission stage decides what is too large for a row.
csv.field_size_limit(sys.maxsize)
INBOX = "inbox:"  # a run's source, where that is not a file but what waits in the inbox
UNDECODED = re.compile(r"[\udc80-\udcff]")  # what errors="surrogateescape" leaves of a byte that is not UTF-8


def read_pages(spec: SourceSpec, folder: Path, page_rows: int, environment: Mapping[str, str]) -> Iterator[Page]:
    """The source's records in order, so many at a time. Memory holds one page."""
    if spec.inbox is not None:
        raise UserMistake("rows come by webhook, and none are there to be read before a run takes them", key="source")
    if spec.url is not None:
        records = _read_sql(spec, environment, page_rows)
    else:
        file = _file(spec, folder)
        records = READERS[_kind(spec, file)](file, page_rows)
    while page := list(islice(records, page_rows)):
        yield page


def columns(spec: SourceSpec, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """The source's columns: a CSV's header, a table's fields, the keys of a JSONL file's first record."""
    if spec.inbox is not None:
        return spec.inbox
    if spec.url is None:
        file = _file(spec, folder)
        kind = _kind(spec, file)
        if kind == "csv":
            with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
                return _header(csv.reader(lines), file)
        if kind == "parquet":
            return list(_parquet(file).schema_arrow.names)
    first = next(read_pages(spec, folder, 1, environment), [])
    if not first or not isinstance(first[0], SourceRow):
        raise UserMistake("holds no record that can be read", file=describe(spec, folder))
    return list(first[0].values)


def source_of(own: SourceSpec, path: str | None, folder: Path, environment: Mapping[str, str]) -> SourceSpec:
    """The job's own source, or what was given instead. Rows of the inbox have the columns of the job's own."""
    if path is None:
        return own
    if path == INBOX:
        return SourceSpec(inbox=columns(own, folder, environment))
    return SourceSpec(path=Path(path).resolve())


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
    kind = spec.kind or {"ndjson": "jsonl", "pq": "parquet"}.get(file.suffix[1:].lower(), file.suffix[1:].lower())
    if kind not in READERS:
        raise UserMistake(f"no reader for {file.suffix!r}; say `source.kind`: {', '.join(READERS)}", file=file)
    return kind


def _read_csv(file: Path, _: int) -> Iterator[SourceRow | BadRow]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        reader = csv.reader(lines)
        names = _header(reader, file)
        width, line = len(names), reader.line_num + 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(line, "not_csv", str(error))
                line = reader.line_num + 1
                continue
            if cells:
                yield _csv_row(line, names, width, cells)
            line = reader.line_num + 1


def _csv_row(line: int, names: list[str], width: int, cells: list[str]) -> SourceRow | BadRow:
    if len(cells) != width:
        return BadRow(line, "wrong_width", f"{len(cells)} cells where the header has {width}")
    for name, cell in zip(names, cells, strict=True):
        if not cell.isascii() and (found := UNDECODED.search(cell)):
            byte = ord(found[0]) - 0xDC00
            return BadRow(line, "undecodable", f"column {name!r} holds the byte 0x{byte:02x}, which is not UTF-8")
    return SourceRow(line, dict(zip(names, cells, strict=True)))


def _header(reader: Iterable[list[str]], file: Path) -> list[str]:
    names = [name.strip() for name in next(iter(reader), [])]
    if not names:
        raise UserMistake("the source has no header", file=file, line=1)
    for name in names:
        if not name:
            raise UserMistake("a column has no name", file=file, line=1)
        if names.count(name) > 1:
            raise UserMistake("this column stands twice in the header", file=file, line=1, key=name)
    return names


def _read_jsonl(file: Path, _: int) -> Iterator[SourceRow | BadRow]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            try:
                value = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except orjson.JSONDecodeError as error:
                reason = "not_json" if _is_utf8(line) else "undecodable"
                yield BadRow(number, reason, str(error))
                continue
            if isinstance(value, dict):
                yield SourceRow(number, value)
            else:
                yield BadRow(number, "not_an_object", f"a record is a JSON object, not {type(value).__name__}")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_parquet(file: Path, page_rows: int) -> Iterator[SourceRow]:
    number = 0
    for batch in _parquet(file).iter_batches(batch_size=page_rows):
        for values in batch.to_pylist():
            number += 1
            yield SourceRow(number, values)


def _parquet(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise UserMistake(f"not a Parquet file: {error}", file=file) from None


def _read_sql(spec: SourceSpec, environment: Mapping[str, str], page_rows: int) -> Iterator[SourceRow]:
    assert spec.url is not None
    url = expand(spec.url, environment)
    try:
        engine = create_engine(url)
        with engine.connect().execution_options(yield_per=page_rows) as connection:
            for number, values in enumerate(connection.execute(text(spec.query or "")).mappings(), 1):
                yield SourceRow(number, dict(values))
        engine.dispose()
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        words = str(getattr(error, "orig", None) or error).replace(url, _without_password(url))
        raise UserMistake(f"the query failed: {words}", file=_without_password(url), key="source.query") from None


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url.partition(":")[0] + "://…"


READERS = {"csv": _read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}

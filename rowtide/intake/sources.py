"""Where rows come from: CSV, JSONL, Parquet, SQL, streamed in pages. What came by webhook is in the ledger.

A record that cannot be read becomes a BadRow with its line and reason; the records around it are none the worse. A
source that cannot be read at all is the user's mistake, named with its file.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from rowtide.database_url import database_url
from rowtide.errors import UserMistake, nearest_name
from rowtide.intake.csv_records import CsvFile
from rowtide.intake.json_lines import read_json_lines
from rowtide.intake.parquet_rows import first_parquet_rows, parquet_columns, read_parquet
from rowtide.intake.plain_values import describe_conversions
from rowtide.intake.source_rows import BadRow, SourceRow
from rowtide.intake.sql_rows import SqlQuery, url_without_password
from rowtide.job.job_spec import LimitsSpec, SourceSpec

Page = list[SourceRow | BadRow]
Weighed = Iterator[tuple[int, SourceRow | BadRow]]  # each record with about how many bytes it is

INBOX = "inbox:"  # a run's source, where that is not a file but what waits in the inbox
ROW_BYTES = LimitsSpec().row_bytes
ESCAPED = 8  # as JSON writes it, a line may be so many times as long as the row is
PAGE_BYTES = 64_000_000  # a page ends here, however few its rows are
SEEN_ROWS = 1000  # records whose names and kinds are looked at before a run begins
KINDS = {"csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet", "pq": "parquet"}


@dataclass(frozen=True, slots=True)
class SourceShape:
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


def source_columns(spec: SourceSpec, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """The source's columns: a CSV's header, a table's fields, the names in a JSONL file's first records."""
    return source_shape(spec, folder, environment).columns


def source_shape(spec: SourceSpec, folder: Path, environment: Mapping[str, str]) -> SourceShape:
    """The source's columns and what is to be said of how it is read. Raises UserMistake where it cannot be."""
    if spec.inbox is not None:
        return SourceShape(spec.inbox)
    if spec.url is not None:
        query = _sql(spec, folder, environment, ROW_BYTES)
        seen = list(query.first())
        if not query.columns:
            raise UserMistake("the query finds no row", file=describe_source(spec, folder), key="source.query")
        return SourceShape(query.columns, describe_conversions(seen))
    file = _file(spec, folder)
    kind = _kind(spec, file)
    if kind == "csv":
        names, notes = CsvFile(file, spec, ROW_BYTES * ESCAPED).header()
        return SourceShape(names, [each for each in notes if each])
    if kind == "parquet":
        return SourceShape(parquet_columns(file), describe_conversions(first_parquet_rows(file, ROW_BYTES * ESCAPED)))
    return SourceShape(_names(read_json_lines(file, spec.encoding, ROW_BYTES * ESCAPED), describe_source(spec, folder)))


def _names(records: Weighed, file: str) -> list[str]:
    """The names in the first records, of which no more than one is held. Raises UserMistake where none can be read."""
    names, bad = dict[str, None](), None
    for _, record in islice(records, SEEN_ROWS):
        if isinstance(record, SourceRow):
            names |= dict.fromkeys(record.values)
        else:
            bad = bad or record
    if not names:
        why = f": line {bad.line}: {bad.detail}" if bad else ""
        raise UserMistake(f"holds no record that can be read{why}", file=file)
    return list(names)


def choose_source(own: SourceSpec, path: str | None, folder: Path, environment: Mapping[str, str]) -> SourceSpec:
    """The job's own source, or what was given instead. Rows of the inbox have the columns of the job's own."""
    if path is None:
        return own
    if path == INBOX:
        return SourceSpec(inbox=source_columns(own, folder, environment))
    options = own.model_dump(include={"encoding", "delimiter", "quote", "escape", "skip_spaces"}, exclude_unset=True)
    return SourceSpec(path=Path(path).resolve(), **options)


def describe_source(spec: SourceSpec, folder: Path) -> str:
    """The source's name for people; never a password."""
    if spec.inbox is not None:
        return "inbox"
    if spec.url is not None:
        return url_without_password(spec.url)
    file = folder / (spec.path or "")
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def expand_variables(value: str, environment: Mapping[str, str]) -> str:
    """Replace each `${NAME}` from the environment. Raises UserMistake for a name that is not set."""

    def known(found: re.Match[str]) -> str:
        if found[1] not in environment:
            raise UserMistake(f"{found[1]} is not set in the environment", meant=nearest_name(found[1], environment))
        return environment[found[1]]

    return re.sub(r"\$\{(\w+)\}", known, value)


def _file(spec: SourceSpec, folder: Path) -> Path:
    file = folder / (spec.path or "")
    if file.is_dir():
        raise UserMistake("is a folder; a source is one file", file=file)
    if not file.is_file():
        beside = [each.name for each in file.parent.glob("*")] if file.parent.is_dir() else []
        raise UserMistake("no such source", file=file, meant=nearest_name(file.name, beside))
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
        return _sql(spec, folder, environment, row_bytes).records()
    file = _file(spec, folder)
    match _kind(spec, file):
        case "csv":
            return CsvFile(file, spec, row_bytes * ESCAPED).records()
        case "jsonl":
            return read_json_lines(file, spec.encoding, row_bytes * ESCAPED)
        case _:
            return read_parquet(file, row_bytes * ESCAPED)


def _sql(spec: SourceSpec, folder: Path, environment: Mapping[str, str], row_bytes: int) -> SqlQuery:
    assert spec.url is not None
    url = database_url(expand_variables(spec.url, environment), "source.url", folder, keeps=False)
    return SqlQuery(url.render_as_string(hide_password=False), spec.query or "", folder, row_bytes)

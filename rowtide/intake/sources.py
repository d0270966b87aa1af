"""Where rows come from: CSV, JSONL, Parquet, SQL, streamed in pages. What came by webhook is in the ledger.

A record that cannot be read becomes a BadRow with its line and reason; the records around it are none the worse. A
source that cannot be read at all is the user's mistake, named with its file.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rowtide.database_url import database_url
from rowtide.errors import UserMistake, nearest_name
from rowtide.intake.csv_records import CsvFile
from rowtide.intake.json_lines import JsonLines
from rowtide.intake.parquet_rows import Parquet
from rowtide.intake.source import Source, SourceShape, Weighed
from rowtide.intake.source_rows import BadRow, SourceRow
from rowtide.intake.sql_rows import SqlQuery, url_without_password
from rowtide.job.job_spec import LimitsSpec, SourceSpec

Page = list[SourceRow | BadRow]

INBOX = "inbox:"  # a run's source, where that is not a file but what waits in the inbox
ROW_BYTES = LimitsSpec().row_bytes
ESCAPED = 8  # as JSON writes it, a line may be so many times as long as the row is
PAGE_BYTES = 64_000_000  # a page ends here, however few its rows are


class Place(NamedTuple):
    """What a source is opened with."""

    spec: SourceSpec
    folder: Path
    """The job's: files are relative to it."""
    environment: Mapping[str, str]
    row_bytes: int
    """How long a row may be."""


def read_pages(
    spec: SourceSpec, folder: Path, page_rows: int, environment: Mapping[str, str], row_bytes: int = ROW_BYTES
) -> Iterator[Page]:
    """The source's records in order, so many at a time, or fewer where they are long. Memory holds one page."""
    page, weight = Page(), 0
    for bytes_read, record in open_source(spec, folder, environment, row_bytes).records():
        page.append(record)
        weight += bytes_read
        if len(page) == page_rows or weight >= PAGE_BYTES:
            yield page
            page, weight = Page(), 0
    if page:
        yield page


def source_columns(spec: SourceSpec, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """The source's columns: a CSV's header, a table's fields, the names in a JSONL file's first records."""
    return list(source_shape(spec, folder, environment).columns)


def source_shape(spec: SourceSpec, folder: Path, environment: Mapping[str, str]) -> SourceShape:
    """The source's columns and what is to be said of how it is read. Raises UserMistake where it cannot be."""
    return open_source(spec, folder, environment, ROW_BYTES).shape()


def choose_source(own: SourceSpec, path: str | None, folder: Path, environment: Mapping[str, str]) -> SourceSpec:
    """The job's own source, or what was given instead. Rows of the inbox have the columns of the job's own."""
    if path is None:
        return own
    if path == INBOX:
        return SourceSpec(inbox=source_columns(own, folder, environment))
    options = own.model_dump(include={"encoding", "delimiter", "quote", "escape", "skip_spaces"}, exclude_unset=True)
    return SourceSpec(path=Path(path).resolve(), **options)


def expand_variables(value: str, environment: Mapping[str, str]) -> str:
    """Replace each `${NAME}` from the environment. Raises UserMistake for a name that is not set."""

    def known(found: re.Match[str]) -> str:
        if found[1] not in environment:
            raise UserMistake(f"{found[1]} is not set in the environment", meant=nearest_name(found[1], environment))
        return environment[found[1]]

    return re.sub(r"\$\{(\w+)\}", known, value)


class _Inbox:
    """Rows that come by webhook: their columns are said in job.yaml."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def shape(self) -> SourceShape:
        return SourceShape(self._columns)

    def records(self) -> Weighed:
        raise UserMistake("rows come by webhook, and none are there to be read before a run takes them", key="source")


def _inbox(place: Place) -> Source:
    return _Inbox(place.spec.inbox or ())


def _query(place: Place) -> Source:
    spec = place.spec
    url = database_url(expand_variables(spec.url or "", place.environment), "source.url", place.folder, keeps=False)
    return SqlQuery(url.render_as_string(hide_password=False), spec.query or "", place.folder, place.row_bytes)


def _file(place: Place) -> Source:
    spec, file = place.spec, place.folder / (place.spec.path or "")
    if file.is_dir():
        raise UserMistake("is a folder; a source is one file", file=file)
    if not file.is_file():
        beside = [each.name for each in file.parent.glob("*")] if file.parent.is_dir() else []
        raise UserMistake("no such source", file=file, meant=nearest_name(file.name, beside))
    if file.stat().st_size == 0:
        raise UserMistake("the source is empty", file=file)
    kind = spec.kind or SUFFIXES.get(file.suffix[1:].lower())
    if kind not in READERS:
        raise UserMistake(f"no reader for {file.suffix!r}; say `source.kind`: {', '.join(READERS)}", file=file)
    return READERS[kind](file, spec, place.row_bytes * ESCAPED)


def _name_of_file(spec: SourceSpec, folder: Path) -> str:
    file = folder / (spec.path or "")
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


READERS: Mapping[str, Callable[[Path, SourceSpec, int], Source]] = {
    "csv": CsvFile,
    "jsonl": JsonLines,
    "parquet": Parquet,
}
"""Files: kind → what reads one whose records have at most so many bytes."""
SUFFIXES = {"csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet", "pq": "parquet"}
PLACES: Mapping[str, tuple[Callable[[Place], Source], Callable[[SourceSpec, Path], str]]] = {
    "path": (_file, _name_of_file),
    "url": (_query, lambda spec, _: url_without_password(spec.url or "")),
    "inbox": (_inbox, lambda _, __: "inbox"),
}
"""Where a source is: key of `source` → how it is opened, and its name for people; never a password."""


def open_source(spec: SourceSpec, folder: Path, environment: Mapping[str, str], row_bytes: int = ROW_BYTES) -> Source:
    """The source that a job names. Raises UserMistake."""
    opened, _ = PLACES[spec.place]
    return opened(Place(spec, folder, environment, row_bytes))


def describe_source(spec: SourceSpec, folder: Path) -> str:
    """The source's name for people; never a password."""
    return PLACES[spec.place][1](spec, folder)

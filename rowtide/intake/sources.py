"""Opens sources (CSV, JSONL, Parquet, SQL) and reads them in pages. Rows that came by webhook are in the ledger.

A record that cannot be read becomes a BadRow with its line and reason; other records are not affected. A source that
cannot be read at all raises UserMistake, which names it.
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
from rowtide.intake.source_interface import Source, SourceShape, Weighed
from rowtide.intake.source_rows import BadRow, SourceRow
from rowtide.intake.sql_rows import SqlQuery, url_without_password
from rowtide.job.job_spec import LimitsSpec, SourceSpec

Page = list[SourceRow | BadRow]

INBOX = "inbox:"  # the source of a run over the inbox
ROW_BYTES = LimitsSpec().row_bytes
ESCAPED = 8  # escapes may make a JSON line so many times longer than its row
PAGE_BYTES = 64_000_000  # a page ends here, even with few rows


class Place(NamedTuple):
    """The arguments with which a source is opened."""

    spec: SourceSpec
    folder: Path
    """The job's folder: files are relative to it."""
    environment: Mapping[str, str]
    row_bytes: int
    """The longest row, in bytes."""


def read_pages(
    spec: SourceSpec, folder: Path, page_rows: int, environment: Mapping[str, str], row_bytes: int = ROW_BYTES
) -> Iterator[Page]:
    """Yield the source's records in order, `page_rows` at a time, or fewer if they are long. Memory holds one page."""
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
    """Return the source's columns: a CSV's header, a query's fields, the names in a JSONL file's first records."""
    return list(source_shape(spec, folder, environment).columns)


def source_shape(spec: SourceSpec, folder: Path, environment: Mapping[str, str]) -> SourceShape:
    """Return the source's columns, and notes on how it is read. Raises UserMistake."""
    return open_source(spec, folder, environment, ROW_BYTES).shape()


def choose_source(own: SourceSpec, path: str | None, folder: Path, environment: Mapping[str, str]) -> SourceSpec:
    """Return the job's own source, or the file given instead. The inbox has the columns of the job's own."""
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
    """Rows that come by webhook; `job.yaml` names their columns."""

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
    if kind is None or kind not in READERS:
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
"""Kind of file → its reader; its number is the longest record, in bytes."""
SUFFIXES = {"csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet", "pq": "parquet"}
PLACES: Mapping[str, tuple[Callable[[Place], Source], Callable[[SourceSpec, Path], str]]] = {
    "path": (_file, _name_of_file),
    "url": (_query, lambda spec, _: url_without_password(spec.url or "")),
    "inbox": (_inbox, lambda _, __: "inbox"),
}
"""Key of `source` → how to open it, and how to name it for people, without a password."""


def open_source(spec: SourceSpec, folder: Path, environment: Mapping[str, str], row_bytes: int = ROW_BYTES) -> Source:
    """Open the source of a job. Raises UserMistake."""
    opened, _ = PLACES[spec.place]
    return opened(Place(spec, folder, environment, row_bytes))


def source_display_name(spec: SourceSpec, folder: Path) -> str:
    """Return the source's name for people, without a password."""
    return PLACES[spec.place][1](spec, folder)

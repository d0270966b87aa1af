"""Finds the source that somebody named: a file, a URL or a query, as one that a run can read.

What a run reads by itself stays where it is. Anything else (a spreadsheet, a gzip, a JSON array, a download, a CSV with
an odd header) becomes a file in the job's own folder, and a note says so.
"""

import gzip
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import httpx2
import orjson

from rowtide.errors import UserMistake, nearest_name
from rowtide.intake.dialects import encoding_of
from rowtide.intake.plain_values import plain_value
from rowtide.intake.source_interface import Source
from rowtide.intake.source_rows import SourceRow
from rowtide.intake.sources import SUFFIXES
from rowtide.job.job_spec import SourceSpec
from rowtide.stages.create_job.column_kinds import LOOKED_AT, header_place, unique_names
from rowtide.stages.create_job.csv_header import CsvOptions, csv_source
from rowtide.stages.create_job.json_array import array_to_lines, rows_in_object
from rowtide.stages.create_job.spreadsheet import read_sheet

QUERY = re.compile(r"\s*(select|with|from|values|table)\b.*", re.IGNORECASE | re.DOTALL)
ROW_NUMBER = "row_number"
URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
PASSWORD = re.compile(r"://[^:/@]*:(?!\$\{)[^@]+@")
LOCAL_DATABASE = re.compile(r"((?:sqlite|duckdb)(?:\+\w+)?:///)(?!/|:memory:|file:)([^?]+)(.*)")
DOWNLOAD_SECONDS = 60  # without a byte
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
GZIP, HEAD_BYTES = b"\x1f\x8b", 4096
NO_TABLES = {
    b"%PDF": "a PDF",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"RIFF": "an image or a recording",
    b"II*\0": "an image",
    b"MM\0*": "an image",
    b"SQLite format 3": "a SQLite database",
    b"BZh": "a bzip2 archive",
    b"7z\xbc\xaf": "an archive",
    b"(\xb5/\xfd": "a zstd archive",
    b"\xfd7zXZ": "an xz archive",
    b"Rar!": "an archive",
    b"\x7fELF": "a program",
}
UNPACK = "unpack it, and name the file in it"
INSTEAD = {
    "a SQLite database": "name a query: --from 'SELECT …' --database sqlite:///FILE",
    "a PDF": "export the table in it as CSV or Excel",
    "a web page": "name the address of the file itself",
}


@dataclass(frozen=True)
class ImportedTable:
    """A source that a run can read, with how it came to be one."""

    spec: SourceSpec
    """A file's path is absolute."""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class TableOptions:
    """What a person may say of how a table is to be read."""

    csv: CsvOptions = field(default_factory=CsvOptions)
    sheet: str | None = None


def import_table(
    given: str, database: str | None, options: TableOptions, data: Path, job_folder: Path
) -> ImportedTable:
    """The source that `given` names. Files that are made of it go into `data`. Raises UserMistake."""
    if database is not None or (QUERY.fullmatch(given) and not Path(given).exists()):
        return _query(given, database, job_folder)
    scheme = URL.match(given)
    if scheme and scheme[1].lower() not in ("http", "https"):
        what = f"{scheme[1]}:// is not read from; copy the file here, and name it"
        if "sql" in scheme[1]:
            what = "a database needs a query: --from 'SELECT …' --database URL"
        raise UserMistake(what, key="--from")
    notes: list[str] = []
    file = _download(given, data, notes) if scheme else _found(given)
    return _as_source(file, options, data, notes)


def table_name(given: str) -> str:
    """Return what was given as it may be shown: a URL without what may be secret in it."""
    return re.sub(r"//[^/@]*@", "//", given.partition("?")[0]) if URL.match(given) else given


def _query(query: str, database: str | None, job_folder: Path) -> ImportedTable:
    if database is None:
        raise UserMistake("a query needs its database: --database postgresql://user@host/name", key="--from")
    if PASSWORD.search(database):
        what = "holds a password, which does not belong into job.yaml: put the URL into a variable of the environment"
        raise UserMistake(f"{what}, and say --database '${{DATABASE_URL}}'", key="--database")
    if local := LOCAL_DATABASE.fullmatch(database):
        database = f"{local[1]}{os.path.relpath(local[2], job_folder)}{local[3]}"
    return ImportedTable(SourceSpec(url=database, query=query.strip()))


def _found(given: str) -> Path:
    file = Path(given).expanduser()
    if file.is_dir():
        names = sorted(each.name for each in file.iterdir() if each.is_file())[:5]
        raise UserMistake(f"is a folder; name a file in it ({', '.join(names) or 'it holds none'})", file=file)
    if not file.exists():
        beside = [each.name for each in file.parent.glob("*")] if file.parent.is_dir() else []
        raise UserMistake("no such file", file=file, meant=nearest_name(file.name, beside))
    if not file.is_file():
        raise UserMistake("is no file that can be read twice: save it to one first", file=file)
    try:
        if file.stat().st_size == 0:
            raise UserMistake("is empty", file=file)
        file.open("rb").close()
    except OSError as error:
        raise UserMistake(f"cannot be read: {error.strerror}", file=file) from None
    return file.resolve()


def _download(url: str, data: Path, notes: list[str]) -> Path:
    name = re.sub(r"[^\w.-]+", "_", url.partition("?")[0].rstrip("/").rpartition("/")[2]) or "download"
    file, shown = data / name, table_name(url)
    try:
        with (
            httpx2.stream("GET", url, follow_redirects=True, timeout=DOWNLOAD_SECONDS) as answer,
            file.open("wb") as out,
        ):
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                out.write(piece)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        words = str(error).partition("\n")[0].replace(url, shown) or type(error).__name__
        raise UserMistake(f"cannot be fetched: {words}; fetch it yourself, and name the file", file=shown) from None
    if file.stat().st_size == 0:
        raise UserMistake("is empty", file=shown)
    notes.append(f"a copy of {shown}; nothing fetches it again")
    return file


def _as_source(file: Path, options: TableOptions, data: Path, notes: list[str]) -> ImportedTable:
    head = _head(file)
    if head.startswith(GZIP):
        return _as_source(_unpacked(file, data, notes), options, data, notes)
    form = _form(file, head)
    return ImportedTable(FORMS[form](file, options, data, notes), notes)


def _form(file: Path, head: bytes) -> str:
    """What kind of file it is, by its first bytes. Raises UserMistake for what is no table."""
    what = next((each for start, each in NO_TABLES.items() if head.startswith(start)), None)
    if head.startswith(b"PK\x03\x04"):
        if file.suffix.lower() in (".xlsx", ".xlsm", ".xlsb", ".ods") or _is_workbook(file):
            return "sheet"
        what = "a ZIP archive"
    if head[257:262] == b"ustar":
        what = "a tar archive"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return "sheet"
    if head.startswith(b"PAR1"):
        return "parquet"
    text = head.decode(encoding_of(head), errors="ignore").lstrip("\ufeff \t\r\n")
    if re.match(r"<(!doctype html|html|\?xml)", text, re.IGNORECASE):
        what = "a web page" if "html" in text[:300].lower() else "XML"
    if what is None and len(CONTROL.findall(text)) > len(text) // 10:
        what = "no text"
    if what:
        usual = UNPACK if what.endswith("archive") else "give it as CSV, Excel, Parquet or JSON Lines"
        instead = INSTEAD.get(what, usual)
        raise UserMistake(f"is {what}, not a table: {instead}", file=file)
    is_json = file.suffix[1:].lower() in ("json", "jsonl", "ndjson")
    if text.startswith("[") and (is_json or re.match(r"\[\s*\{", text)):
        return "array"
    return "lines" if text.startswith("{") and (is_json or re.match(r'\{\s*"', text)) else "csv"


def _csv(file: Path, options: TableOptions, data: Path, notes: list[str]) -> SourceSpec:
    return csv_source(file, options.csv, data, notes)


def _lines(file: Path, options: TableOptions, data: Path, notes: list[str]) -> SourceSpec:
    if (wrapped := rows_in_object(file)) is not None:
        name, rows = wrapped
        lines = data / f"{file.stem}.jsonl"
        lines.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        notes.append(f"{lines.name} holds the rows under {name!r}, a line each; {file.name} is not read again")
        return SourceSpec(path=lines)
    known = SUFFIXES.get(file.suffix[1:].lower())
    return SourceSpec(path=file, kind=None if known == "jsonl" else "jsonl", encoding=options.csv.encoding)


def _array(file: Path, options: TableOptions, data: Path, notes: list[str]) -> SourceSpec:
    lines = data / f"{file.stem}.jsonl"
    array_to_lines(file, lines)
    notes.append(f"{lines.name} holds the array's rows, a line each; {file.name} is not read again")
    return SourceSpec(path=lines)


def _parquet(file: Path, options: TableOptions, data: Path, notes: list[str]) -> SourceSpec:
    known = SUFFIXES.get(file.suffix[1:].lower())
    return SourceSpec(path=file, kind=None if known == "parquet" else "parquet")


def _sheet(file: Path, options: TableOptions, data: Path, notes: list[str]) -> SourceSpec:
    sheet = read_sheet(file, options.sheet)
    first = list(islice(sheet.lines, LOOKED_AT))
    if not any(cell is not None for line in first for cell in line):
        raise UserMistake(f"the sheet {sheet.name!r} is empty; --sheet names another", file=file)
    place = header_place(first)
    names = unique_names(["" if cell is None else str(cell) for cell in first[place]])
    lines = data / f"{file.stem}.jsonl"
    if not write_lines(lines, names, chain(first[place + 1 :], sheet.lines)):
        raise UserMistake(f"the sheet {sheet.name!r} has a header, but no rows; --sheet names another", file=file)
    others = f" ({', '.join(sheet.others)} left out: --sheet names another)" if sheet.others else ""
    skipped = f", its header in line {place + 1}" if place else ""
    what = f"{lines.name} holds the rows of sheet {sheet.name!r}{skipped}{others}"
    notes.append(f"{what}; {file.name} is not read again")
    return SourceSpec(path=lines)


FORMS: Mapping[str, Callable[[Path, TableOptions, Path, list[str]], SourceSpec]] = {
    "csv": _csv,
    "lines": _lines,
    "array": _array,
    "parquet": _parquet,
    "sheet": _sheet,
}


def write_lines(file: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Write rows as JSON Lines; those of which every cell is empty are left out. Returns how many were written."""
    count = 0
    with file.open("wb") as out:
        for row in rows:
            if any(cell is not None for cell in row):
                out.write(orjson.dumps(dict(zip(names, row, strict=False)), plain_value, orjson.OPT_APPEND_NEWLINE))
                count += 1
    return count


def _unpacked(file: Path, data: Path, notes: list[str]) -> Path:
    name = file.stem if file.suffix.lower() in (".gz", ".gzip") else f"{file.name}.unpacked"
    target = data / (name if name != file.name or file.parent != data else f"{name}.unpacked")
    try:
        with gzip.open(file) as packed, target.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        raise UserMistake(f"cannot be unpacked: {error}", file=file) from None
    if file.parent == data:
        file.unlink()
    if target.stat().st_size == 0:
        raise UserMistake("is empty", file=file)
    notes.append(f"{target.name} is unpacked from {file.name}, which is not read again")
    return target


def _head(file: Path) -> bytes:
    with file.open("rb") as start:
        return start.read(HEAD_BYTES)


def _is_workbook(file: Path) -> bool:
    with file.open("rb") as content:
        start = content.read(HEAD_BYTES)
    return b"xl/" in start or b"opendocument.spreadsheet" in start


def number_rows(source: Source, file: Path) -> str:
    """Write a source's readable rows to `file` as JSON Lines, each with its number. Returns the name of that column."""
    names = list(source.shape().columns)
    name = unique_names([*names, ROW_NUMBER])[-1]
    rows = (record.values for _, record in source.records() if isinstance(record, SourceRow))
    write_lines(file, [name, *names], ([n, *map(row.get, names)] for n, row in enumerate(rows, 1)))
    return name

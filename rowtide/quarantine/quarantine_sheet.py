"""Write and read the quarantine sheet: a CSV file for a spreadsheet, or JSONL for a program.

A line is a row. It begins with its key, its reason and the detail; then comes every column of the source as
`in.NAME`, every field of the last answer as `answer.NAME`, and `do`: what is to become of it. `run` and `as_of` tell a
sheet of another run, and a row that has moved on since. What is odd in a sheet that comes back makes all of it void:
the mistake is named with file, line and column.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO, cast

import orjson

from rowtide.errors import UserMistake, nearest_name
from rowtide.quarantine.quarantine_cells import to_cell, unguard_cell

BOM = "\ufeff"  # without it, Excel takes UTF-8 for something else
INPUT, ANSWER = "in.", "answer."
FIRST, LAST = ("row_key", "reason", "detail"), ("do", "run", "as_of")
NEEDED = ("row_key", "run", "as_of")
DO = ("retry", "accept", "discard")


@dataclass(frozen=True, slots=True)
class SheetShape:
    """The columns of a run's sheet: those of the source, each with its kinds of value, and those of the answer."""

    inputs: Mapping[str, frozenset[str]]
    fields: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        inputs, fields = [INPUT + name for name in self.inputs], [ANSWER + name for name in self.fields]
        return [*FIRST, *inputs, *fields, *LAST]


@dataclass(frozen=True, slots=True)
class SelectedRow:
    """A quarantined row that somebody selected, without its content."""

    row_no: int
    turn: int
    row_key: str
    reason: str
    detail: str
    is_refused: int
    """0, or 1: it must be mended before it can be sent."""


@dataclass(frozen=True, slots=True)
class SheetEntry:
    """A row of the quarantine, as a sheet shows it. A row that has left quarantine is still known."""

    row_no: int
    turn: int
    row_key: str
    state: str
    reason: str
    detail: str
    as_of: int
    """The number of its newest note: another one tells that the row has moved on."""
    is_refused: bool
    """It was refused on admission and not edited since: it cannot be sent as it is."""
    content: dict[str, Any]
    answer: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class SheetLine:
    """One row of a sheet that came back. Cells are text as written, or JSON values."""

    number: int
    row_key: str
    do: str
    as_of: int
    cells: Mapping[str, object]
    is_text: bool


def sheet_record(entry: SheetEntry, run_id: str, shape: SheetShape) -> dict[str, object]:
    """Return the sheet's line for an entry: column → value."""
    answer = entry.answer or {}
    return {
        "row_key": entry.row_key,
        "reason": entry.reason,
        "detail": entry.detail,
        **{INPUT + name: entry.content.get(name) for name in shape.inputs},
        **{ANSWER + name: answer.get(name) for name in shape.fields},
        "do": "",
        "run": run_id,
        "as_of": entry.as_of,
    }


def write_csv_sheet(out: TextIO, columns: list[str], records: Iterable[Mapping[str, object]]) -> None:
    """Write a sheet that spreadsheets open; `out` must not touch line ends."""
    out.write(BOM)
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([to_cell(record[name]) for name in columns] for record in records)


def write_jsonl_sheet(out: TextIO, columns: list[str], records: Iterable[Mapping[str, object]]) -> None:
    """Write a sheet as one JSON object a line."""
    out.writelines(orjson.dumps({name: record[name] for name in columns}).decode() + "\n" for record in records)


def read_sheet(content: bytes, file: str, *, run_id: str, shape: SheetShape) -> list[SheetLine]:
    """Return the lines of a sheet, all of this run, each key once. Raises UserMistake naming file, line and column."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserMistake("not UTF-8: save it as “CSV UTF-8”", file=file, line=line) from None
    kind = file.rpartition(".")[2].lower()
    if kind not in KINDS:
        raise UserMistake("a sheet ends in .csv or .jsonl", file=file)
    lines: dict[str, SheetLine] = {}
    for number, cells in KINDS[kind][1](text, file, shape):
        line = _line(number, cells, file, run_id, is_text=kind == "csv")
        if line.row_key in lines:
            what = f"{line.row_key!r} stands already in line {lines[line.row_key].number}"
            raise UserMistake(what, file=file, line=number, key="row_key")
        lines[line.row_key] = line
    return list(lines.values())


def _read_csv(text: str, file: str, shape: SheetShape) -> Iterator[tuple[int, dict[str, object]]]:
    # A spreadsheet writes the separator of its country; the first column's name tells which.
    separator = text[len("row_key") : len("row_key") + 1]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator if separator in (";", "\t") else ",")
    columns = next(reader, [])
    _check_columns(columns, file, shape, line=1)
    number = reader.line_num + 1
    for cells in reader:
        if any(cells):
            if len(cells) != len(columns):
                raise UserMistake(f"{len(cells)} cells where the header has {len(columns)}", file=file, line=number)
            yield number, dict(zip(columns, cells, strict=True))
        number = reader.line_num + 1


def _read_jsonl(text: str, file: str, shape: SheetShape) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UserMistake(f"not JSON: {error}", file=file, line=number) from None
        if not isinstance(found, dict):
            raise UserMistake("a line is a JSON object", file=file, line=number)
        cells = cast(dict[str, object], found)
        _check_columns(list(cells), file, shape, line=number)
        yield number, cells


def _check_columns(columns: list[str], file: str, shape: SheetShape, *, line: int) -> None:
    known = shape.columns
    for place, name in enumerate(columns, 1):
        if name not in known:
            what = "no such column" if name else f"column {place} has no name"
            raise UserMistake(what, file=file, line=line, key=name, meant=nearest_name(name, known))
        if name in columns[: place - 1]:
            raise UserMistake("this column stands twice", file=file, line=line, key=name)
    for name in NEEDED:
        if name not in columns:
            raise UserMistake("this column is missing; export the sheet again", file=file, line=line, key=name)


def _line(number: int, cells: dict[str, object], file: str, run_id: str, *, is_text: bool) -> SheetLine:
    def cell(name: str) -> str:
        value = cells.get(name)
        return unguard_cell(value) if isinstance(value, str) and is_text else str("" if value is None else value)

    if not cell("row_key"):
        raise UserMistake("a line without a key", file=file, line=number, key="row_key")
    if cell("run") != run_id:
        what = f"this line is of run {cell('run')!r}, not of {run_id!r}"
        raise UserMistake(what, file=file, line=number, key="run")
    if not cell("as_of").isdecimal():
        what = f"{cell('as_of')!r} is not what was exported; export the sheet again"
        raise UserMistake(what, file=file, line=number, key="as_of")
    do = cell("do").strip().lower()
    if do not in ("", *DO):
        what = f"{do!r} is none of {', '.join(DO)}, nor empty"
        raise UserMistake(what, file=file, line=number, key="do", meant=nearest_name(do, DO))
    return SheetLine(number, cell("row_key"), do, int(cell("as_of")), cells, is_text)


Writer = Callable[[TextIO, list[str], Iterable[Mapping[str, object]]], None]
Reader = Callable[[str, str, SheetShape], Iterator[tuple[int, dict[str, object]]]]
KINDS: dict[str, tuple[Writer, Reader]] = {
    "csv": (write_csv_sheet, _read_csv),
    "jsonl": (write_jsonl_sheet, _read_jsonl),
}

"""The labelling sheet: a CSV with a line for each row to be labelled, written out and read back.

It shows the row and not what any model answered: who sees an answer agrees with it more often than with the truth.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from rowtide.errors import UserMistake, nearest_name
from rowtide.evals.golden_rows import GoldenRow
from rowtide.evals.label_choice import Candidate
from rowtide.job.answer_fields import fields_to_fill_in
from rowtide.quarantine.quarantine_cells import parse_answer_cell, unguard_cell
from rowtide.quarantine.quarantine_sheet import ANSWER, INPUT

KEY, STRATUM, HOW, PINNED = "row_key", "stratum", "how", "pinned"
YES, NO = ("yes", "true", "1", "x"), ("", "no", "false", "0")
NULL = "null"  # a cell that says so: the answer is that there is none


def label_columns(columns: Sequence[str], fields: Sequence[str]) -> list[str]:
    """Return the columns of the sheet for a source's columns and an answer's fields."""
    return [KEY, STRATUM, *(INPUT + name for name in columns), *(ANSWER + name for name in fields), HOW, PINNED]


def label_records(
    rows: Iterable[Candidate], columns: Sequence[str], fields: Sequence[str]
) -> Iterable[dict[str, object]]:
    """Yield a record for each row: column → value, with the answer's fields empty."""
    for row in rows:
        yield {
            **dict.fromkeys(label_columns(columns, fields), ""),
            KEY: row.key,
            STRATUM: row.stratum,
            **{INPUT + name: row.values.get(name) for name in columns},
        }


def read_label_sheet(content: bytes, file: Path, answer: type[BaseModel], by: str) -> list[GoldenRow]:
    """Return a golden row for each line of the sheet in which an answer was filled in. Raises UserMistake with file and
    line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserMistake("not UTF-8: save it as “CSV UTF-8”", file=file, line=line) from None
    separator = text[len(KEY) : len(KEY) + 1]  # of the spreadsheet's country
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator if separator in (";", "\t") else ",")
    columns, fields = next(reader, []), field_types(answer)
    _check_columns(columns, fields, file)
    found: list[GoldenRow] = []
    number = reader.line_num + 1
    for cells in reader:
        if any(cells):
            if len(cells) != len(columns):
                raise UserMistake(f"{len(cells)} cells where the header has {len(columns)}", file=file, line=number)
            row = _golden_row(dict(zip(columns, cells, strict=True)), fields, number, file, by)
            found += [row] if row else []
        number = reader.line_num + 1
    return found


def field_types(answer: type[BaseModel]) -> dict[str, TypeAdapter[object]]:
    """Return the type of each field that a person fills in, by its name."""
    infos = answer.model_fields
    named = fields_to_fill_in(answer).items()
    return {name: TypeAdapter[object](infos[attribute].annotation or object) for name, attribute in named}


def _check_columns(columns: Sequence[str], fields: Mapping[str, object], file: Path) -> None:
    known = [KEY, STRATUM, HOW, PINNED, *(ANSWER + name for name in fields)]
    for name in columns:
        if name not in known and not name.startswith(INPUT):
            raise UserMistake("no such column", file=file, line=1, key=name, meant=nearest_name(name, known))
        if columns.count(name) > 1:
            raise UserMistake("this column stands twice", file=file, line=1, key=name)
    if KEY not in columns:
        raise UserMistake("this column is missing; write the sheet again", file=file, line=1, key=KEY)


def _golden_row(
    cells: Mapping[str, str], fields: Mapping[str, TypeAdapter[object]], number: int, file: Path, by: str
) -> GoldenRow | None:
    """The golden row of a line; None where nobody filled in an answer."""
    given = {name: cell for name in fields if (cell := cells.get(ANSWER + name, "")).strip()}
    if not given:
        return None
    if not (key := unguard_cell(cells[KEY]).strip()):
        raise UserMistake("a line without a key", file=file, line=number, key=KEY)
    if (pinned := cells.get(PINNED, "").strip().casefold()) not in (*YES, *NO):
        raise UserMistake(f"{pinned!r} is neither yes nor no", file=file, line=number, key=PINNED)
    answer = {name: parse_label(cell, fields[name]) for name, cell in given.items()}
    how, stratum = (unguard_cell(cells.get(name, "")).strip() for name in (HOW, STRATUM))
    row = GoldenRow(key, answer, number, how=how, by=by, pinned=pinned in YES)
    return GoldenRow(key, answer, number, how=how, by=by, pinned=pinned in YES, stratum=stratum) if stratum else row


def parse_label(cell: str, field: TypeAdapter[object]) -> object:
    """Return the value that a person wrote for a field; the word `null` means None."""
    return None if cell.strip().casefold() == NULL else parse_answer_cell(cell, field)

"""Reads a sheet of a spreadsheet (.xlsx, .xls, .ods). The only module that imports python-calamine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook

from rowtide.errors import UserMistake, nearest_name


@dataclass(frozen=True)
class Sheet:
    """A sheet: its lines as they stand, and which others there are."""

    name: str
    others: Sequence[str]
    lines: Iterator[list[object]]


def read_sheet(file: Path, wanted: str | None) -> Sheet:
    """The wanted sheet, or the one with the most cells. Raises UserMistake where it cannot be read."""
    try:
        book = CalamineWorkbook.from_path(file)
        names = book.sheet_names
        if wanted is not None and wanted not in names:
            what = f"no sheet {wanted!r}; sheets: {', '.join(names)}"
            raise UserMistake(what, file=file, key="--sheet", meant=nearest_name(wanted, names))
        sheets = [book.get_sheet_by_name(name) for name in ([wanted] if wanted else names)]
        chosen = max(sheets, key=lambda sheet: sheet.height * sheet.width)
    except (CalamineError, OSError, ValueError) as error:
        what = f"cannot be read as a spreadsheet: {error}; save it without a password, or as CSV"
        raise UserMistake(what, file=file) from None
    lines = ([_plain(cell) for cell in line] for line in chosen.iter_rows())
    return Sheet(chosen.name, [name for name in names if name != chosen.name], lines)


def _plain(cell: Any) -> object:
    """A cell's value: whole numbers are whole, an empty cell is None, midnight is a date."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1 << 53:
        return int(cell)
    if isinstance(cell, datetime) and cell.time() == time():
        return cell.date()
    return None if cell == "" else cell

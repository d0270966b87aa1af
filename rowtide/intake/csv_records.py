"""Reads the records of a CSV file as they are written, without guessing at ambiguous quotes.

A line with wrong quoting is quarantined alone if its last quote can close a cell. Otherwise nobody can say where its
record ends, and the file is refused with line and column.
"""

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rowtide.errors import UserMistake
from rowtide.intake.dialects import (
    Dialect,
    can_record_end_here,
    delimiter_name,
    dialect_of,
    is_quote_open_after,
    quoting_fault,
)
from rowtide.intake.source_interface import SourceShape, Weighed
from rowtide.intake.source_rows import BadRow, SourceRow
from rowtide.job.job_spec import SourceSpec

HEAD_BYTES = 256 * 1024
CELL_BYTES = 64  # Python's overhead for a cell
# Cells have no limit of their own: the record's length is limited before it is parsed.
csv.field_size_limit(sys.maxsize)
UNDECODED = re.compile(r"[\udc80-\udcff]")  # what errors="surrogateescape" makes of a byte that is not UTF-8


class _TooLong(Exception):
    """A record is longer than any row may be; the rest of it is not read."""


class CsvFile:
    """An open CSV file: its dialect, its columns, its records."""

    def __init__(self, file: Path, spec: SourceSpec, record_chars: int) -> None:
        with file.open("rb") as start:
            head = start.read(HEAD_BYTES)
        try:
            self.dialect = dialect_of(spec, head)
        except UserMistake as mistake:
            raise UserMistake(mistake.what, file=file, line=mistake.line) from None
        self._file, self._most = file, record_chars
        gaps = () if spec.skip_spaces or not spec.quote else (f" {spec.quote}", f"\t{spec.quote}")
        self._gaps, self._spaced = gaps, [self.dialect.delimiter + gap for gap in gaps]

    def shape(self) -> SourceShape:
        """Return the columns, and notes on how the file is read. Raises UserMistake."""
        with self._open() as text:
            lines = _Lines(text, self._most, self.dialect.delimiter)
            names, padded = self._header(lines, self.dialect.reader(lines))
        return SourceShape(names, [each for each in (self._as_read(len(names)), *padded) if each])

    def records(self) -> Weighed:
        """Yield every record, with its length in characters. Raises UserMistake where a record has no certain end."""
        with self._open() as text:
            lines = _Lines(text, self._most, self.dialect.delimiter)
            reader = self.dialect.reader(lines)
            names, _ = self._header(lines, reader)
            while True:
                lines.begin()
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except UnicodeDecodeError as error:
                    raise self._undecodable(error, lines) from None
                except _TooLong:
                    yield lines.chars, self._skip(lines)
                except csv.Error as error:
                    yield lines.chars, self._malformed(lines, str(error))
                else:
                    if self._is_spaced(lines.record) and quoting_fault(lines.record, self.dialect):
                        yield lines.chars, self._malformed(lines, "")
                    elif cells:
                        yield lines.chars + CELL_BYTES * len(cells), self._row(lines, names, cells)

    def _is_spaced(self, record: str) -> bool:
        """Whether spaces may precede a quote, which the reader would take for text."""
        return any(each in record for each in self._spaced) or record.startswith(self._gaps)

    def _open(self) -> TextIO:
        dialect = self.dialect
        return self._file.open(encoding=dialect.encoding, errors="surrogateescape", newline=dialect.newline)

    def _as_read(self, width: int) -> str:
        encoding = {"utf-8-sig": "UTF-8", "utf-8": "UTF-8"}.get(self.dialect.encoding, self.dialect.encoding)
        if width == 1:
            return f"{self._file.name}: read as {encoding}, one column"
        is_usual = encoding == "UTF-8" and self.dialect.delimiter == ","
        return "" if is_usual else f"{self._file.name}: read as {encoding}, {delimiter_name(self.dialect.delimiter)}"

    def _header(self, lines: "_Lines", reader: Iterator[list[str]]) -> tuple[list[str], list[str]]:
        lines.begin()
        try:
            written = next(reader, [])
        except UnicodeDecodeError as error:
            raise self._undecodable(error, lines) from None
        except (csv.Error, _TooLong) as error:
            place, what = quoting_fault(lines.record, self.dialect) or (0, str(error) or "the header is too long")
            raise UserMistake(f"column {place + 1}: {what}", file=self._file, line=1) from None
        names = [name.strip() for name in written]
        if not names:
            raise UserMistake("the source has no header", file=self._file, line=1)
        for number, name in enumerate(names, 1):
            if what := self._fault_of_name(number, name):
                raise UserMistake(what, file=self._file, line=1)
            if names.count(name) > 1:
                raise UserMistake("this column stands twice in the header", file=self._file, line=1, key=name)
        changed = [(before, now) for before, now in zip(written, names, strict=True) if before != now]
        return names, [f"{self._file.name}: the column {before!r} is called {now!r}" for before, now in changed]

    def _fault_of_name(self, number: int, name: str) -> str | None:
        if found := UNDECODED.search(name):
            return self._not_in_encoding(f"column {number} of the header", found)
        if "\0" in name:
            return f"the name of column {number} holds a NUL"
        return None if name else f"column {number} has no name"

    def _row(self, lines: "_Lines", names: list[str], cells: list[str]) -> SourceRow | BadRow:
        line = lines.began
        if len(cells) != len(names):
            upto = f", up to line {lines.number}" if lines.number > line else ""
            return BadRow(line, "wrong_width", f"{len(cells)} cells where the header has {len(names)}{upto}")
        if not lines.record.isascii():
            for name, cell in zip(names, cells, strict=True):
                if found := UNDECODED.search(cell):
                    return BadRow(line, "undecodable", self._not_in_encoding(f"column {name!r}", found))
        return SourceRow(line, dict(zip(names, cells, strict=True)))

    def _not_in_encoding(self, place: str, found: re.Match[str]) -> str:
        byte = ord(found[0]) - 0xDC00
        if not self.dialect.encoding.startswith("utf-8"):
            return f"{place} holds the byte 0x{byte:02x}, which is not {self.dialect.encoding}"
        alike = found.string.encode("utf-8", "surrogateescape").decode("cp1252", "replace")[:60]
        hint = f"; if {alike!r} is right, say `source.encoding: cp1252`"
        return f"{place} holds the byte 0x{byte:02x}, which is not UTF-8{hint}"

    def _undecodable(self, error: UnicodeDecodeError, lines: "_Lines") -> UserMistake:
        what = f"not {self.dialect.encoding}: {error.reason}; say `source.encoding`"
        return UserMistake(what, file=self._file, line=lines.number + 1)

    def _malformed(self, lines: "_Lines", words: str) -> BadRow:
        """Return the record to quarantine. Raises UserMistake if its end is uncertain."""
        place, what = (quoting_fault(lines.record, self.dialect) if self.dialect.quote else None) or (0, words)
        before = lines.record[:place]
        line = lines.began + before.count(self.dialect.newline)
        column = place - (before.rfind(self.dialect.newline) + 1) + 1
        has_quote = self.dialect.quote and self.dialect.quote in lines.record
        if len(lines.taken) == 1 and (not has_quote or can_record_end_here(lines.record, self.dialect)):
            return BadRow(lines.began, "not_csv", f"column {column}: {what}")
        what = f"column {column}: {what}, so nobody can say where this row ends"
        if "\\" + self.dialect.quote in lines.record:
            what += r"; if \ stands before quotes, say `source.escape: '\'`"
        raise UserMistake(what, file=self._file, line=line)

    def _skip(self, lines: "_Lines") -> BadRow:
        """Skip the rest of a record that is too long. Raises UserMistake if it has no end."""
        most = f"{self._most:,} characters" if lines.chars > self._most else f"{self._most // 8:,} cells"
        what = f"more than {most}, which no row of limits.row_bytes can have"
        place, _ = (quoting_fault(lines.record, self.dialect) if self.dialect.quote else None) or (0, "")
        line = lines.began + lines.record[:place].count(self.dialect.newline)
        if lines.skip(self.dialect):
            return BadRow(lines.began, "too_large", what)
        raise UserMistake("a quote that opens here is not closed", file=self._file, line=line)


class _Lines:
    """A file's lines, with those of the present record kept, up to `most` characters a record."""

    def __init__(self, text: TextIO, most: int, delimiter: str) -> None:
        self._text, self._most, self._delimiter = text, most, delimiter
        self.taken: list[str] = []
        self.number = self.began = self.chars = 0

    def begin(self) -> None:
        self.taken.clear()
        self.began, self.chars = self.number + 1, 0

    @property
    def record(self) -> str:
        return "".join(self.taken)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._most + 1)
        if not line:
            raise StopIteration
        self.taken.append(line)
        self.chars += len(line)
        if self.chars > self._most or (self.chars > self._most // 8 and line.count(self._delimiter) > self._most // 8):
            raise _TooLong
        self.number += 1
        return line

    def skip(self, dialect: Dialect) -> bool:
        """Skip the present record. Returns False when the file ends inside it."""
        piece, is_open = dialect.delimiter + self.record, False
        while piece:
            piece = self._past_quotes(piece, dialect.quote)
            ends = piece.endswith(dialect.newline)
            is_open = bool(dialect.quote) and is_quote_open_after(piece, dialect, is_open=is_open)
            self.number += ends
            if ends and not is_open:
                return True
            rest = self._text.readline(self._most)
            piece = piece[-1] + rest if rest and piece.endswith(dialect.delimiter) else rest
        return not is_open

    def _past_quotes(self, piece: str, quote: str) -> str:
        """Return a piece that ends in quotes with what follows; of many quotes in a row, one or two mean the same."""
        after, quotes = "", 0
        while quote and (after or piece[-1]) == quote and (after := self._text.read(1)) == quote:
            quotes += 1
        return piece + quote * (quotes % 2) + after

"""Records of a JSON Lines file: an object a line, every number and every name as it is written."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rowtide.errors import UserMistake
from rowtide.intake.dialects import encoding_of
from rowtide.intake.exact_json import parse_json_exactly
from rowtide.intake.source_rows import BadRow, SourceRow

HEAD_BYTES = 4096
MARKS = (b",", b"[", b"{")  # a record has at most one value more than these; each takes a byte of the row too
VALUE_BYTES = 64  # what Python needs for a value, beside its length
BOM = b"\xef\xbb\xbf"


def read_json_lines(file: Path, encoding: str | None, line_bytes: int) -> Iterator[tuple[int, SourceRow | BadRow]]:
    """Every record, with about how many bytes it takes. A line that is longer than `line_bytes` is not read."""
    with file.open("rb") as raw:
        known = encoding or encoding_of(raw.read(HEAD_BYTES))
        raw.seek(0)
        lines = raw if known.startswith("utf-8") else _Transcoded(raw, known, file)
        number = 0
        while line := lines.readline(line_bytes + 1):
            number += 1
            if len(line) > line_bytes:
                while line and not line.endswith(b"\n"):
                    line = lines.readline(line_bytes)
                what = f"more than {line_bytes:,} bytes, which no row of limits.row_bytes can have"
                yield line_bytes, BadRow(number, "too_large", what)
            elif (values := sum(map(line.count, MARKS))) > line_bytes // 8:
                what = f"more than {line_bytes // 8:,} values, which no row of limits.row_bytes can have"
                yield VALUE_BYTES, BadRow(number, "too_large", what)
            elif not line.isspace():
                yield len(line) + VALUE_BYTES * values, _record(number, line.removeprefix(BOM) if number == 1 else line)


class _Transcoded:
    """The lines of a file that is not UTF-8, as UTF-8."""

    def __init__(self, raw: BinaryIO, encoding: str, file: Path) -> None:
        self._text, self._encoding, self._file = io.TextIOWrapper(raw, encoding, newline="\n"), encoding, file
        self._number = 0

    def readline(self, size: int) -> bytes:
        try:
            line = self._text.readline(size)
        except UnicodeDecodeError as error:
            what = f"not {self._encoding}: {error.reason}; say `source.encoding`"
            raise UserMistake(what, file=self._file, line=self._number + 1) from None
        self._number += line.endswith("\n")
        return line.encode()


def _record(number: int, line: bytes) -> SourceRow | BadRow:
    try:
        value = parse_json_exactly(line)
    except ValueError as error:
        return BadRow(number, "not_json" if _is_utf8(line) else "undecodable", str(error))
    if isinstance(value, dict):
        return SourceRow(number, value)
    return BadRow(number, "not_an_object", f"a record is a JSON object, not {type(value).__name__}")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True

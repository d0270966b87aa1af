"""Reads the records of a JSON Lines file: an object a line, numbers and names as written."""

import io
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from rowtide.errors import UserMistake
from rowtide.intake.dialects import encoding_of
from rowtide.intake.exact_json import parse_json_exactly
from rowtide.intake.source_interface import SourceShape, Weighed
from rowtide.intake.source_rows import BadRow, SourceRow
from rowtide.job.job_spec import SourceSpec

HEAD_BYTES = 4096
SEEN_ROWS = 1000  # records from which columns are read before a run begins
MARKS = (b",", b"[", b"{")  # a record has at most one value more than these; each is a byte of the row too
VALUE_BYTES = 64  # Python's overhead for a value
BOM = b"\xef\xbb\xbf"


class JsonLines:
    """A JSON Lines file. Lines longer than `line_bytes` are not read."""

    def __init__(self, file: Path, spec: SourceSpec, line_bytes: int) -> None:
        self._file, self._encoding, self._most = file, spec.encoding, line_bytes

    def shape(self) -> SourceShape:
        """Return the names in the first records, one record in memory. Raises UserMistake if none can be read."""
        names, bad = dict[str, None](), None
        for _, record in islice(self.records(), SEEN_ROWS):
            if isinstance(record, SourceRow):
                names |= dict.fromkeys(record.values)
            else:
                bad = bad or record
        if not names:
            why = f": line {bad.line}: {bad.detail}" if bad else ""
            raise UserMistake(f"holds no record that can be read{why}", file=self._file)
        return SourceShape(list(names))

    def records(self) -> Weighed:
        """Yield every record, with its approximate size in bytes."""
        most = self._most
        with self._file.open("rb") as raw:
            known = self._encoding or encoding_of(raw.read(HEAD_BYTES))
            raw.seek(0)
            lines = raw if known.startswith("utf-8") else _Transcoded(raw, known, self._file)
            number = 0
            while line := lines.readline(most + 1):
                number += 1
                if len(line) > most:
                    while line and not line.endswith(b"\n"):
                        line = lines.readline(most)
                    what = f"more than {most:,} bytes, which no row of limits.row_bytes can have"
                    yield most, BadRow(number, "too_large", what)
                elif (values := sum(map(line.count, MARKS))) > most // 8:
                    what = f"more than {most // 8:,} values, which no row of limits.row_bytes can have"
                    yield VALUE_BYTES, BadRow(number, "too_large", what)
                elif not line.isspace():
                    weight = len(line) + VALUE_BYTES * values
                    yield weight, _record(number, line.removeprefix(BOM) if number == 1 else line)


class _Transcoded:
    """A file's lines, converted to UTF-8."""

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

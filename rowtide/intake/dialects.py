"""Finds out how a text file is written: encoding, delimiter, quotes. What is not certain must be configured."""

import codecs
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rowtide.errors import UserMistake
from rowtide.job.job_spec import SourceSpec

DELIMITERS = (",", ";", "\t", "|")
BOMS = {  # UTF-32's first: they begin with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a CSV file is written."""

    encoding: str
    newline: str
    delimiter: str
    quote: str
    """Empty if quotes have no meaning."""
    escape: str | None
    skip_spaces: bool

    def reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Return Python's CSV reader, in strict mode: a misplaced quote is an error."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            escapechar=self.escape,
            doublequote=self.escape is None,
            skipinitialspace=self.skip_spaces,
            strict=True,
        )


def encoding_of(head: bytes) -> str:
    """Return the encoding that the first bytes show: by byte order mark, or by the NULs of UTF-16; else UTF-8."""
    for mark, name in BOMS.items():
        if head.startswith(mark):
            return name
    even, odd = head[0:4096:2].count(0), head[1:4096:2].count(0)
    pairs = max(1, min(len(head), 4096) // 2)
    if odd > max(1, 0.4 * pairs) and not even:
        return "utf-16-le"
    if even > max(1, 0.4 * pairs) and not odd:
        return "utf-16-be"
    return "utf-8-sig"


def dialect_of(spec: SourceSpec, head: bytes) -> Dialect:
    """Return the dialect that the job sets, completed from the file's first bytes. Raises UserMistake if they are
    ambiguous.
    """
    encoding = spec.encoding or encoding_of(head)
    text = head.decode(encoding, errors="ignore")
    end = re.search(r"\r\n?|\n", text)
    newline = "\r" if end and end[0] == "\r" else "\n"
    lines = [line + newline for line in text.split(newline)][:-1] or [text]
    quote = spec.quote
    delimiter = spec.delimiter or delimiter_of(lines, quote)
    return Dialect(encoding, newline, delimiter, quote, spec.escape, spec.skip_spaces)


def delimiter_of(lines: Sequence[str], quote: str) -> str:
    """Return the delimiter that splits the header and every line alike. Raises UserMistake if several could."""
    widths = {each: _widths(lines, each, quote) for each in DELIMITERS}
    splitting = [each for each, found in widths.items() if found and found[0] > 1]
    if len(splitting) < 2:
        return splitting[0] if splitting else ","
    even = [each for each in splitting if len(set(widths[each])) == 1]
    if len(even) == 1:
        return even[0]
    if not even and "," in splitting:
        return ","
    names = " or ".join(delimiter_name(each) for each in even or splitting)
    raise UserMistake(f"the cells may be split by {names}: say which, `source.delimiter`", line=1)


def delimiter_name(delimiter: str) -> str:
    """Return a delimiter's name for people."""
    return "tab" if delimiter == "\t" else f"`{delimiter}`"


def quoting_fault(record: str, dialect: Dialect) -> tuple[int, str] | None:
    """Return where a record's quoting goes wrong, and how; None if it does not."""
    quote, ends = re.escape(dialect.quote), re.escape(dialect.delimiter) + r"\r\n"
    quoted = re.compile(f"{quote}[^{quote}]*(?:{quote}{quote}[^{quote}]*)*{quote}")
    spaced, ended = re.compile(rf"[ \t]+(?={quote})"), re.compile(f"[{ends}]|$")
    ending, breaking = re.compile(f"[{ends}]"), re.compile(r"\r(?!\n|\r|$)|(?<!\r)\n(?!$)")
    place = 0
    while place < len(record):
        if spaces := spaced.match(record, place):
            if not dialect.skip_spaces:
                return place, "spaces stand before the quote; if they mean nothing, say `source.skip_spaces: true`"
            place = spaces.end()
        if record.startswith(dialect.quote, place):
            cell = quoted.match(record, place)
            if cell is None:
                return place, "the quote that opens here is not closed"
            if not ended.match(record, cell.end()):
                return cell.end() - 1, "a quote stands inside a quoted cell and is not doubled"
            place = cell.end()
        else:
            place = found.start() if (found := ending.search(record, place)) else len(record)
        if lone := breaking.match(record, place):
            return lone.start(), "a line break stands outside of quotes"
        place += 1
    return None


def can_record_end_here(line: str, dialect: Dialect) -> bool:
    """Return whether a line's last quote can close a cell, so that its record ends here whatever else is wrong."""
    after = line[line.rfind(dialect.quote) + 1 :].lstrip(" ")
    return after.startswith(dialect.delimiter) or not after.strip()


def is_quote_open_after(text: str, dialect: Dialect, *, is_open: bool) -> bool:
    """Return whether a quoted cell is open at the end of a piece, which ends in neither a quote nor a delimiter."""
    opening, place = dialect.delimiter + dialect.quote, 0
    while True:
        if not is_open:
            if (found := text.find(opening, place)) < 0:
                return False
            is_open, place = True, found + len(opening)
        if (found := text.find(dialect.quote, place)) < 0:
            return True
        is_doubled = text.startswith(dialect.quote, found + 1)
        is_open, place = is_doubled, found + 1 + is_doubled


def _widths(lines: Sequence[str], delimiter: str, quote: str) -> list[int]:
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quotechar=quote or None, quoting=quoting)
    found: list[int] = []
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return found
        except csv.Error:
            continue
        if cells:
            found.append(len(cells))

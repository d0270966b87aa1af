"""Makes a CSV readable that a run would refuse: finds its encoding, and writes a copy where its header is odd."""

import codecs
import csv
import io
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rowtide.errors import UserMistake
from rowtide.intake.csv_records import HEAD_BYTES
from rowtide.intake.dialects import Dialect, delimiter_of, dialect_of, encoding_of
from rowtide.intake.sources import SUFFIXES
from rowtide.job.job_spec import SourceSpec
from rowtide.stages.create_job.column_kinds import header_place, looks_like_data, unique_names

WESTERN = "cp1252"
SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=(.)"?\r?\n', re.IGNORECASE)
FOREIGN_WORD = re.compile(r"\w*[^\W\x00-\x7f]\w*")  # with a letter beyond ASCII
TITLE_LINES = 10  # most that may stand above a header
SEEN_LINES = 50


@dataclass(frozen=True)
class CsvOptions:
    """What a person may say of how a CSV is written."""

    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    skip_spaces: bool = False
    has_header: bool | None = None

    def as_source(self, file: Path) -> SourceSpec:
        """The source that a file is, read so."""
        given = {name: value for name, value in vars(self).items() if value and name != "has_header"}
        given |= {"quote": ""} if self.quote == "" else {}
        kind: Any = None if SUFFIXES.get(file.suffix[1:].lower()) == "csv" else "csv"
        try:
            return SourceSpec(path=file, kind=kind, **given)
        except ValidationError as error:
            flag, what = error.errors()[0]["loc"][0], error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserMistake(f"{what}: {given[str(flag)]!r}", key=f"--{flag}") from None


def csv_source(file: Path, options: CsvOptions, data: Path, notes: list[str]) -> SourceSpec:
    """The CSV as a source: the file itself or, where its header is odd, a copy in `data`. Raises UserMistake."""
    encoding = options.encoding or _encoding(file, notes)
    spec = options.as_source(file).model_copy(update={"encoding": encoding})
    dialect, above, records = _first_records(spec)
    spec = spec.model_copy(update={"delimiter": None if dialect.delimiter == "," else dialect.delimiter})
    if not records[above:]:
        return spec  # whoever reads it says what is wrong
    header, below = [name.strip() for name in records[above]], records[above + 1 :]
    if below and not any(any(record[len(header) :]) for record in below):  # a delimiter at the end of lines
        header += [""] * (min(map(len, below)) - len(header))
    has_header = options.has_header
    if has_header is None:
        even = [record for record in below if len(record) == len(header)]
        has_header = not looks_like_data(header, [_filled(column) for column in zip(*even, strict=True)])
        if has_header and len(header) == 1:
            notes.append(f"one column, called {header[0]!r} by the first line (--no-header: that is a row)")
    if not above and has_header and all(header) and len({*header}) == len(header):
        return spec
    names = unique_names(header if has_header else [""] * len(header))
    copy = data / f"{file.stem}{'-rows' if file.parent == data else ''}.csv"
    _copy(file, copy, dialect, names, above + has_header)
    what = f"{copy.name} is a copy {_what_is_new(header, names, above, has_header=has_header)}"
    notes.append(f"{what}; {file.name} is not read again")
    return options.as_source(copy).model_copy(update={"encoding": None, "delimiter": dialect.delimiter})


def _first_records(spec: SourceSpec) -> tuple[Dialect, int, list[list[str]]]:
    """How a CSV is written, how many records stand above its header, and its first records; none where they cannot be
    read. Raises UserMistake where the delimiter is not certain.
    """
    with (spec.path or Path()).open("rb") as start:
        head = start.read(HEAD_BYTES)
    text = head.decode(spec.encoding or encoding_of(head), errors="replace")
    lines = io.StringIO(text, newline="").readlines()[:SEEN_LINES]
    above, delimiter = _header_place(lines, spec.delimiter, spec.quote)
    dialect = dialect_of(spec.model_copy(update={"delimiter": delimiter}), head)
    lines = lines[:-1] if len(lines) == SEEN_LINES else lines  # the last one may be cut
    try:
        records = list(dialect.reader(lines))
        if spec.delimiter is None and not above and (other := _delimiter_of_one_column(lines, records)):
            dialect = replace(dialect, delimiter=other)
            records = list(dialect.reader(lines))
    except csv.Error:
        return dialect, 0, []
    return dialect, above, records


def _encoding(file: Path, notes: list[str]) -> str | None:
    """The encoding to name in job.yaml: none where the file is UTF-8 or its first bytes say what it is."""
    with file.open("rb") as start:
        if not encoding_of(start.read(HEAD_BYTES)).startswith("utf-8"):
            return None
    wrong, right = _count_of_utf8(file)
    if right >= wrong:
        return None
    example, letters = "", Counter[bool]()
    try:
        with file.open(encoding=WESTERN) as text:
            for piece in iter(lambda: text.read(1 << 20), ""):
                found = FOREIGN_WORD.findall(piece)[:1000]
                letters.update(not letter.isascii() for word in found for letter in word)
                example = example or next(iter(found), "")
        why = f": it would say {example!r}" if letters[True] > letters[False] else ""
    except UnicodeDecodeError as error:
        why = f": it holds the byte 0x{error.object[error.start]:02x}"
    if why:
        what = f"is neither UTF-8 nor {WESTERN}{why}; say what it is: --encoding cp1251, shift_jis, gb18030, …"
        raise UserMistake(what, file=file)
    notes.append(f"read as {WESTERN}: it says {example!r}; if that is wrong, name another by --encoding")
    return WESTERN


def _count_of_utf8(file: Path) -> tuple[int, int]:
    """How many bytes are not UTF-8, and how many characters beyond ASCII are."""
    decoder, wrong, right = codecs.getincrementaldecoder("utf-8")(errors="replace"), 0, 0
    with file.open("rb") as content:
        while piece := content.read(1 << 20):
            text = decoder.decode(piece)
            if not text.isascii():
                unread = text.count("\ufffd")
                wrong, right = wrong + unread, right + len(re.findall(r"[^\x00-\x7f]", text)) - unread
    return wrong, right


def _header_place(lines: Sequence[str], delimiter: str | None, quote: str) -> tuple[int, str | None]:
    """How many records stand above the header (titles, blank lines, `sep=;`), and the delimiter where that tells it."""
    if lines and (found := SEPARATOR_LINE.fullmatch(lines[0])):
        return 1, found[1]
    for first in range(min(TITLE_LINES, len(lines) - 2)):
        try:
            split_by = delimiter or delimiter_of(lines[first:], quote)
        except UserMistake:
            return 0, delimiter  # whoever reads it says so
        records = list(csv.reader(lines, delimiter=split_by, quotechar=quote or None))
        widths = Counter(len(record) for record in records[first:] if record)
        width, times = widths.most_common(1)[0] if widths else (0, 0)
        is_header = first < len(records) and len(records[first]) == width
        if width > 2 and is_header and times >= 0.9 * widths.total():
            place = header_place(records)
            return place, split_by if place else delimiter
    return 0, delimiter


def _delimiter_of_one_column(lines: Sequence[str], records: Sequence[Sequence[str]]) -> str | None:
    """A delimiter that stands in no line, where the header has one column and a line below it more; else None."""
    if not records or len(records[0]) != 1 or all(len(record) < 2 for record in records):
        return None
    return next(each for each in ("\t", "|", "\x1f") if not any(each in line for line in lines))


def _copy(file: Path, target: Path, dialect: Dialect, names: Sequence[str], skipped: int) -> None:
    """Copy a CSV as UTF-8, with these names instead of its first records; all other lines stay as they are."""
    with (
        file.open(encoding=dialect.encoding, newline=dialect.newline) as text,
        target.open("w", encoding="utf-8", newline="") as out,
    ):
        reader = dialect.reader(iter(text.readline, ""))
        for _ in range(skipped):
            next(reader)
        csv.writer(out, delimiter=dialect.delimiter, quotechar=dialect.quote or '"').writerow(names)
        shutil.copyfileobj(text, out, 1 << 20)


def _filled(cells: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in cells if cell.strip()]


def _what_is_new(header: Sequence[str], names: Sequence[str], above: int, *, has_header: bool) -> str:
    """What a copy's header has that the file's has not, in words."""
    if not has_header:
        return f"with a header ({names[0]}, …), because the first line holds data (--header: it is the header)"
    new = [name for before, name in zip(header, names, strict=True) if before != name]
    without = f"without what stood above its header ({above} lines)" if above else ""
    return " and ".join(filter(None, [without, f"in which columns are called {', '.join(new[:5])}" if new else ""]))

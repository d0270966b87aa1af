"""What a column holds and what it is good for, from its counts and some of its values. Pure: values in, values out."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Kind = Literal[
    "empty", "whole number", "number", "decimal comma", "date", "date d.m.y", "date d/m/y", "yes or no", "e-mail",
    "URL", "text", "long text",
]  # fmt: skip

LONG_CHARS = 60  # of a value on average: a text that somebody wrote
MOST_LOOKUP = 30  # different values of a column that is looked up in a list
KEY_CHARS = 200  # a longer value names nothing
LOOKED_AT = 20  # first lines of a table, of which one is the header
ALMOST = 0.95  # of the values of an id differ, where an export repeats some rows

PATTERNS: dict[Kind, str] = {
    "whole number": r"[+-]?(?:0|[1-9]\d{0,17})",
    "number": r"[+-]?(?:\d+\.\d+|\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?[eE][+-]?\d+|0|[1-9]\d*)",
    "decimal comma": r"[+-]?(?:\d{1,3}(?:\.\d{3})*|\d+)(?:,\d+)?",
    "date": r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?",
    "date d.m.y": r"\d{1,2}\. ?\d{1,2}\. ?\d{2,4}(?: \d{1,2}:\d{2}.*)?",
    "date d/m/y": r"\d{1,2}/\d{1,2}/\d{2,4}(?: \d{1,2}:\d{2}.*)?",
    "yes or no": r"(?i:true|false|yes|no|y|n|ja|nein|oui|non|si|sí)",
    "e-mail": r"[^@\s]+@[^@\s]+\.[^@\s]+",
    "URL": r"https?://\S+",
}
"""In the order in which they are tried. Every value must match in full."""

WORD = re.compile(r"[^\W_]+")
PERSONAL = {
    "email", "mail", "phone", "telephone", "tel", "telefon", "telefono", "mobile", "handy", "fax", "iban", "ssn",
    "passport", "birthday", "birthdate", "birth", "dob", "geburtsdatum", "geburtstag", "vorname", "nachname",
    "firstname", "lastname", "surname", "prenom", "apellido", "apellidos", "street", "strasse", "straße", "address",
    "adresse", "direccion", "ip", "steuernummer", "fullname", "patient",
}  # fmt: skip
PERSONAL_PAIRS = {
    ("first", "name"),
    ("last", "name"),
    ("full", "name"),
    ("e", "mail"),
    ("tax", "id"),
    ("given", "name"),
}
PERSONAL_VALUE = re.compile(r"[^@\s]+@[^@\s]+\.[a-z]{2,}|[A-Z]{2}\d{2}[A-Z0-9 ]{11,34}|\+\d[\d ()/.-]{6,}\d")
IDENTIFYING = {"id", "key", "code", "nr", "no", "number", "nummer", "uuid", "guid", "sku", "ref", "isin", "kennung"}


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column of a source, as it was found."""

    name: str
    kind: Kind
    filled: int
    """Rows in which it is not blank."""
    distinct: int
    """Different values, about: blanks are none."""
    longest: int
    """Characters of the longest value."""
    is_text: bool
    """Whether every value is a text to the source, as all of a CSV are."""
    common: tuple[str, ...]
    """Its values, the commonest first, where they are few."""
    is_personal: bool

    @property
    def is_lookup(self) -> bool:
        """Whether it is one of a few values that come again and again."""
        return self.kind in ("text", "yes or no") and 1 < self.distinct <= MOST_LOOKUP and bool(self.common)


def kind_of(values: Sequence[str]) -> Kind:
    """The kind of a column, of which these are values that are not blank."""
    if not values:
        return "empty"
    for kind, pattern in PATTERNS.items():
        if all(re.fullmatch(pattern, value) for value in values):
            return kind
    return "long text" if sum(map(len, values)) >= LONG_CHARS * len(values) else "text"


def looks_personal(name: str, values: Sequence[str]) -> bool:
    """Whether a column's name or most of its values speak of a person: an address, a number, a birthday."""
    words = _words(name)
    if not PERSONAL.isdisjoint(words) or not PERSONAL_PAIRS.isdisjoint(pairwise(words)):
        return True
    return bool(values) and 2 * sum(bool(PERSONAL_VALUE.fullmatch(value)) for value in values) > len(values)


def key_candidates(columns: Sequence[ColumnProfile], rows: int) -> list[ColumnProfile]:
    """The columns that may name a row, the likeliest first: filled in every row, short, and no measure or date."""
    may = [each for each in columns if each.filled == rows and each.longest <= KEY_CHARS and _can_name(each)]
    return sorted(may, key=lambda each: not looks_identifying(each.name))


def pair_candidates(columns: Sequence[ColumnProfile], rows: int, most: int = 5) -> list[tuple[str, str]]:
    """The pairs of columns that together may name a row, the likeliest first."""
    may = [each for each in columns if each.filled == rows and each.longest <= KEY_CHARS and each.distinct > 1]
    may = [each for each in may if each.kind not in ("long text", "decimal comma", "number")]
    tried = sorted(may, key=lambda each: (not looks_identifying(each.name), -each.distinct))[:most]
    tried.sort(key=columns.index)
    pairs = [(one, two) for place, one in enumerate(tried) for two in tried[place + 1 :]]
    likely = [(one, two) for one, two in pairs if 1.1 * one.distinct * two.distinct >= rows]
    named = sorted(likely, key=lambda pair: -sum(looks_identifying(each.name) for each in pair))
    return [(one.name, two.name) for one, two in named]


def looks_identifying(name: str) -> bool:
    """Whether a column's name says that it names something: `Ticket ID`, `order_no`, `customerId`."""
    return not IDENTIFYING.isdisjoint(_words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)))


def looks_like_data(cells: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Whether the first line of a file, whose other lines hold `columns`, is a row and not a header.

    A header holds no number, date or address where the lines below it do: years are the exception.
    """
    plain = ("text", "long text", "empty", "yes or no")
    for cell, below in zip(cells, columns, strict=False):
        kind = kind_of([cell.strip()]) if cell.strip() else "empty"
        if kind not in plain and not re.fullmatch(r"(?:19|20)\d\d", cell.strip()) and kind == kind_of(below):
            return True
    return False


def header_place(lines: Sequence[Sequence[object]]) -> int:
    """Which of the first lines is the header: the first that fills at least half as many cells as any of them."""
    filled = [sum(cell not in (None, "") for cell in line) for line in lines[:LOOKED_AT]]
    return next((place for place, count in enumerate(filled) if count and 2 * count >= max(filled)), 0)


def unique_names(names: Sequence[str]) -> list[str]:
    """Names for columns: `column_3` where there is none, `name_2` where it stands a second time."""
    found: list[str] = []
    for place, name in enumerate(names, 1):
        wanted = " ".join(name.replace("\0", "").split()) or f"column_{place}"
        number, unique = 2, wanted
        while unique in found:
            unique, number = f"{wanted}_{number}", number + 1
        found.append(unique)
    return found


def _can_name(column: ColumnProfile) -> bool:
    if column.kind in ("text", "whole number", "e-mail", "URL"):
        return True
    return looks_identifying(column.name) and column.kind not in ("empty", "long text")


def _words(name: str) -> list[str]:
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return WORD.findall(plain.casefold())

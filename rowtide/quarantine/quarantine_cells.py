"""A value as the text of a cell, and back, whatever a spreadsheet would make of that text.

A spreadsheet takes `=1+1` for a formula, `007` for the number 7 and `1-2` for a date. Such text gets an apostrophe in
front, which is taken off again when it comes back; text that would be mistaken without its own apostrophes gets one
more. So every text comes back as it was, and one that lost its apostrophe on the way does too.
"""

import re
from collections.abc import Collection, Iterable

import orjson
from pydantic import TypeAdapter, ValidationError

LONGEST = 32_767  # characters: a spreadsheet cuts what is longer without a word

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # the wide ones are formulas too
BEFORE_FORMULA = ("\t", "\r", "\n")  # some spreadsheets pass over these, and read what follows
UNMISTAKABLE = re.compile(r"0|[1-9]\d{0,9}")  # a number that every spreadsheet shows and writes as it is
NUMBER_OR_DATE = re.compile(r"(?=.*\d)[\d\s.,:/+\-%$€£¥()]*(e[+\-]?\d+|[ap]m?)?", re.DOTALL | re.IGNORECASE)
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[t ][\d:.]+(z|[+\-][\d:]+)?", re.IGNORECASE)
MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
NAMED_DAY = re.compile(rf"(?=.*\d)(\d+[\s./\-]*)?({MONTHS})[a-z]{{0,6}}[\s.,/\-]*\d*[\s.,/\-]*\d*", re.IGNORECASE)
TRUTH = {"true", "false"}

TEXT = "text"
KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: TEXT,
    list: "a list",
    dict: "an object",
}
NO_JSON = object()


def cell_of(value: object) -> str:
    """The cell of a value: text as it is, nothing for null, all else as JSON; guarded where it must be."""
    text = text_of(value)
    return f"'{text}" if _is_mistakable(text) else text


def text_of(value: object) -> str:
    """A value as text, unguarded."""
    if value is None or isinstance(value, str):
        return value or ""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def unguarded(cell: str) -> str:
    """The text that a cell stands for."""
    return cell[1:] if cell.startswith("'") and _is_mistakable(cell[1:]) else cell


def is_as_it_was(cell: str, value: object) -> bool:
    """Whether the cell still stands for `value`. Spreadsheets write line ends in their own way."""
    return _with_plain_ends(unguarded(cell)) == _with_plain_ends(text_of(value))


def was_cut(cell: str, value: object) -> bool:
    """Whether a spreadsheet has cut the cell of `value` at its limit."""
    return len(cell) == LONGEST and len(whole := cell_of(value)) > LONGEST and whole.startswith(cell)


def kind_of(value: object) -> str:
    """What a value of a row is called; every value of JSON but null has a name."""
    return KINDS[type(value)]


def kinds_of(values: Iterable[object]) -> frozenset[str]:
    """The kinds that stand among values."""
    return frozenset(kind_of(value) for value in values if value is not None)


def value_of(cell: str, kinds: Collection[str]) -> object:
    """The value that a person wrote into a column of these kinds. Raises ValueError for one of another kind."""
    text = unguarded(cell)
    if set(kinds) <= {TEXT}:
        return text
    if not text.strip():
        return None
    parsed = _parsed(text)
    if parsed is not NO_JSON and parsed is not None and kind_of(parsed) in kinds:
        return parsed
    if TEXT in kinds:
        return text
    raise ValueError(f"{text[:100]!r} is not {' or '.join(sorted(kinds))}")


def answer_of(cell: str, field: TypeAdapter[object]) -> object:
    """The value that a person wrote into an answer's field: text where the field takes it, else JSON, else as it is."""
    text = unguarded(cell)
    candidates = [text, _parsed(text)] if text else [None, text]
    return next((each for each in candidates if each is not NO_JSON and takes(field, each)), text)


def takes(field: TypeAdapter[object], value: object) -> bool:
    """Whether a field takes this JSON value as it stands."""
    try:
        field.validate_json(orjson.dumps(value), strict=True, by_name=True)
    except ValidationError:
        return False
    return True


def is_same(one: object, other: object) -> bool:
    """Whether two JSON values are equal; 1 is 1.0 but not true."""
    if type(one) is type(other):
        return text_of(one) == text_of(other)
    return {type(one), type(other)} == {int, float} and one == other


def _parsed(text: str) -> object:
    try:
        return orjson.loads(text.lower() if text.lower() in TRUTH else text)
    except orjson.JSONDecodeError:
        return NO_JSON


def _is_mistakable(text: str) -> bool:
    bare = text.lstrip("'").strip()
    if UNMISTAKABLE.fullmatch(bare):
        return bare != text.lstrip("'")
    looks_like = (NUMBER_OR_DATE, MOMENT, NAMED_DAY)
    return (
        bare.startswith(FORMULA)
        or text.lstrip("'").startswith(BEFORE_FORMULA)
        or bare.lower() in TRUTH
        or any(pattern.fullmatch(bare) is not None for pattern in looks_like)
    )


def _with_plain_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")

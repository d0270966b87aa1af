"""Spreadsheet cells of a quarantine sheet: a value to text and back, whatever the spreadsheet makes of it.

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


def to_cell(value: object) -> str:
    """Return a value as a cell: text as it is, null as nothing, anything else as JSON; with an apostrophe
    where needed.
    """
    text = value_as_text(value)
    return f"'{text}" if _is_mistakable(text) else text


def value_as_text(value: object) -> str:
    """Return a value as text, without a protecting apostrophe."""
    if value is None or isinstance(value, str):
        return value or ""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def unguard_cell(cell: str) -> str:
    """Return the text of a sheet's cell without the apostrophe that guards it from a spreadsheet."""
    return cell[1:] if cell.startswith("'") and _is_mistakable(cell[1:]) else cell


def is_cell_unchanged(cell: str, value: object) -> bool:
    """Return whether the cell still stands for `value`. Spreadsheets write line ends in their own way."""
    return _with_plain_ends(unguard_cell(cell)) == _with_plain_ends(value_as_text(value))


def was_cell_cut(cell: str, value: object) -> bool:
    """Return whether a spreadsheet has cut the cell of `value` at its limit."""
    return len(cell) == LONGEST and len(whole := to_cell(value)) > LONGEST and whole.startswith(cell)


def value_kind(value: object) -> str:
    """Return the name of a row value's kind; every JSON value but null has one."""
    return KINDS[type(value)]


def value_kinds(values: Iterable[object]) -> frozenset[str]:
    """Return the kinds that occur among values."""
    return frozenset(value_kind(value) for value in values if value is not None)


def parse_cell(cell: str, kinds: Collection[str]) -> object:
    """Return the value that a person wrote into a column of these kinds. Raises ValueError for another kind."""
    text = unguard_cell(cell)
    if set(kinds) <= {TEXT}:
        return text
    if not text.strip():
        return None
    parsed = _parsed(text)
    if parsed is not NO_JSON and parsed is not None and value_kind(parsed) in kinds:
        return parsed
    if TEXT in kinds:
        return text
    raise ValueError(f"{text[:100]!r} is not {' or '.join(sorted(kinds))}")


def parse_answer_cell(cell: str, field: TypeAdapter[object]) -> object:
    """Return the value that a person wrote into an answer's field: text where the field accepts it, else JSON, else as
    written.
    """
    text = unguard_cell(cell)
    candidates = [text, _parsed(text)] if text else [None, text]
    return next((each for each in candidates if each is not NO_JSON and field_accepts(field, each)), text)


def field_accepts(field: TypeAdapter[object], value: object) -> bool:
    """Return whether a field takes this JSON value as it stands."""
    try:
        field.validate_json(orjson.dumps(value), strict=True, by_name=True)
    except ValidationError:
        return False
    return True


def is_same_json(one: object, other: object) -> bool:
    """Return whether two JSON values are equal; 1 is 1.0 but not true."""
    if type(one) is type(other):
        return value_as_text(one) == value_as_text(other)
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

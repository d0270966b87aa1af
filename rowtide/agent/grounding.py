"""Decides whether a claimed value stands in a tool's output: as a whole value, never as part of one.

Tool output is JSON, lines of JSON, or prose. Text stands in a text as whole words, ignoring case and kinds of white
space: `C-10` does not stand in `C-100` or `XC-10`, nor `Oman` in `Romania` or `oman.com`. A number stands where that
number stands, also as `1,000` or `1000.0` in a text. Text of digits stands only as it is written. True and false stand
only where JSON has them. Keys of an object are not values. Each value of a list or object must stand. Null claims
nothing; blank text never stands.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from rowtide.job.job_spec import GroundingSpec

FAILURE_CHARS = 200  # of a tool's error, quoted to the model

Claim = bool | int | float | Decimal | str

TIES = frozenset(
    ".-\u2010\u2011/@&'\u2019"
)  # between two characters of a word they make one word: `a.b`, `km/h`, `AT&T`
THOUSAND = re.compile(r"\d{3}(?!\d)")
POSSESSIVE = re.compile(r"['\u2019]s(?!\w)")
NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?")
PADDED = re.compile(r"[-+]?0\d")  # a code, not a number
LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')
CUT = re.compile(r"(?<!\S)\S*+\n\[cut: [\d,]+ characters, the first [\d,]+ shown\]$")  # and what may be half a word


class ToolOutput(NamedTuple):
    """A tool's output in the row's present conversation, or quoted to it."""

    tool: str
    text: str
    is_error: bool = False


class Evidence(NamedTuple):
    """What an answer may be held against: its row's columns, what its tools said. Each is read when it is called."""

    row: Callable[[], dict[str, object]]
    outputs: Callable[[], Iterable[ToolOutput]]


class ParsedOutput(NamedTuple):
    """A tool's output, parsed: folded texts, JSON numbers as written, JSON truth values."""

    texts: list[str]
    numbers: list[str]
    truths: list[bool]


class JsonNumber(str):
    """A JSON number as it is written."""

    __slots__ = ()


AS_WRITTEN = json.JSONDecoder(parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=JsonNumber)


def values_in_output(output: str) -> ParsedOutput:
    """Return the values in a tool's output."""
    parsed = ParsedOutput([], [], [])
    if output.endswith(" shown]"):
        output = CUT.sub("", output)
    whole = _parsed(output)
    if whole is not None:
        _sort(whole, parsed)
        return parsed
    prose: list[str] = []
    for line in output.splitlines():
        found = _parsed(line) if line.lstrip()[:1] in ("{", "[") else None
        if found is None:
            prose.append(line)
        else:
            _sort(found, parsed)
    text = "\n".join(prose)
    parsed.texts.append(_folded(text))
    if "\\" in text:  # JSON inside prose, or cut short: its texts are escaped
        parsed.texts.extend(_folded(str(_parsed(each))) for each in LITERAL.findall(text) if "\\" in each)
    return parsed


def claims_in_value(value: object) -> Iterator[Claim]:
    """Yield the single values that a value claims."""
    match value:
        case None:
            return
        case Enum():
            yield from claims_in_value(value.value)
        case bool() | int() | float() | Decimal() | str():
            yield value
        case BaseModel():
            yield from claims_in_value(dict(value))
        case dict():
            for each in value.values():
                yield from claims_in_value(each)
        case list() | tuple() | set() | frozenset():
            for each in value:
                yield from claims_in_value(each)
        case _:
            yield str(to_jsonable_python(value, fallback=str))


def is_grounded(claim: Claim, parsed: ParsedOutput) -> bool:
    """Return whether a single value stands in the output."""
    match claim:
        case bool():
            return claim in parsed.truths
        case str():
            text = _folded(claim)
            return bool(text) and (text in parsed.numbers or any(_is_word_in(text, each) for each in parsed.texts))
        case _:
            return math.isfinite(claim) and any(_equals(claim, each) for each in _numbers_in(parsed))


def _parsed(text: str) -> Any:
    """Return parsed JSON with numbers as written; None for text that is not JSON."""
    try:
        return AS_WRITTEN.decode(text)
    except (ValueError, RecursionError):
        return None


def _sort(value: object, parsed: ParsedOutput) -> None:
    match value:
        case dict():
            for each in value.values():
                _sort(each, parsed)
        case list():
            for each in value:
                _sort(each, parsed)
        case bool():
            parsed.truths.append(value)
        case JsonNumber():
            parsed.numbers.append(value.casefold())
        case str():
            parsed.texts.append(_folded(value))
        case _:
            pass


def _folded(text: str) -> str:
    """Return text in the form in which it is compared."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _numbers_in(parsed: ParsedOutput) -> Iterator[str]:
    yield from parsed.numbers
    for text in parsed.texts:
        for found in NUMBER.finditer(text):
            if not PADDED.match(found[0]) and _is_whole(text, *found.span()):
                yield found[0].replace(",", "")


def _equals(claim: float | Decimal, number: str) -> bool:
    try:
        return float(number) == claim if isinstance(claim, float) else Decimal(number) == claim
    except ArithmeticError:
        return False


def _is_word_in(word: str, text: str) -> bool:
    at = text.find(word)
    while at >= 0:
        if _is_whole(text, at, at + len(word)):
            return True
        at = text.find(word, at + 1)
    return False


def _is_whole(text: str, start: int, end: int) -> bool:
    """Return whether the match is not part of a longer word or number."""
    return not (_is_tied_before(text, start) or _is_tied_after(text, end))


def _is_tied_before(text: str, start: int) -> bool:
    sign, before = text[start - 1 : start], text[start - 2 : start - 1] if start > 1 else ""
    if _is_of_word(sign):
        return True
    if text[start].isdigit() and sign in ("-", "+", "."):
        return True
    if sign == "," and THOUSAND.match(text, start):
        return before.isdigit()
    return (sign in TIES and _is_of_word(before)) or (sign == ":" and before.isdigit() and text[start].isdigit())


def _is_tied_after(text: str, end: int) -> bool:
    sign, after = text[end : end + 1], text[end + 1 : end + 2]
    if _is_of_word(sign):
        return True
    if sign == "," and text[end - 1].isdigit():
        return THOUSAND.match(text, end + 1) is not None
    if sign == ":":
        return text[end - 1].isdigit() and after.isdigit()
    return sign in TIES and _is_of_word(after) and POSSESSIVE.match(text, end) is None


def _is_of_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def ungrounded_claims(claimed: BaseModel, rules: Sequence[GroundingSpec], evidence: Evidence) -> list[str]:
    """Return a problem for each claim that stands in no output of its tool."""
    problems: list[str] = []
    outputs = list(evidence.outputs())
    for rule in rules:
        claims = list(claims_in_value(getattr(claimed, rule.field)))
        result = [output for output in outputs if rule.tool == output.tool or fnmatchcase(output.tool, rule.tool)]
        parsed_outputs = [values_in_output(output.text) for output in result if not output.is_error] if claims else []
        problems += [
            _ungrounded(rule, claim, result)
            for claim in claims
            if not any(is_grounded(claim, each) for each in parsed_outputs)
        ]
    return problems


def _ungrounded(rule: GroundingSpec, claim: Claim, result: Sequence[ToolOutput]) -> str:
    """Return why a claim is not grounded, and what to do, judging by the tool's output so far."""
    if not result:
        return f"{rule.field}: call {rule.tool} first; the value must come from its output"
    failed = next((output for output in reversed(result) if output.is_error), None)
    if failed is not None and all(output.is_error for output in result):
        what = (
            f"{rule.field}: {failed.tool} was called and failed ({failed.text[:FAILURE_CHARS]!r}), so it says nothing"
        )
        return f"{what} of {claim!r}; call it otherwise, the value must come from its output"
    if isinstance(claim, str) and not claim.strip():
        return f"{rule.field}: blank text stands nowhere; copy the value from what {rule.tool} said"
    return f"{rule.field}: {claim!r} does not stand in what {rule.tool} said; copy the whole value from there"

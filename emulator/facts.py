"""Extract named values (facts) from a row and from tool output."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from emulator.orders import OBEY, without_orders

Scalar = str | int | float | bool

# `name: value`, `- name: value`, `**name**: value`, `**name:** value`
LINE = re.compile(
    r"^[ \t]*(?:[-*•][ \t]+)?[*_`]*([A-Za-z][\w /().&'-]{0,60}?)[*_`]*[ \t]*:[*_`]*[ \t]+(\S.*?)[ \t]*$", re.MULTILINE
)
# The same without a value: a column that is empty.
EMPTY_LINE = re.compile(
    r"^[ \t]*(?:[-*•][ \t]+)?[*_`]*([A-Za-z][\w /().&'-]{0,60}?)[*_`]*[ \t]*:[*_`]*[ \t]*$", re.MULTILINE
)
JSON_START = re.compile(r"[{\[]")
DECODER = json.JSONDecoder()
# Looking for JSON inside a text stops after so many openings that led to none.
MOST_TRIES = 20


@dataclass(frozen=True, slots=True)
class Fact:
    name: str
    value: Scalar
    tool: str | None = None
    """The tool that said so; None for what stands in the row."""


def facts_in(text: str, tool: str | None = None) -> list[Fact]:
    """Return the named values of a text: of the JSON in it if there is some, else of its `name: value` lines."""
    text = without_orders(text) if OBEY in text else text
    found = list(_flat("", _json_in(text), tool))
    if found:
        return found
    lines = LINE.findall(text)
    return [Fact(name, each, tool) for name, value in lines for each in _listed(name, value) if not is_empty(each)]


def empty_names_in(text: str) -> list[str]:
    """Return the names in a text, of JSON or of lines, that have no value."""
    parsed = _json_in(text)
    of_json = [str(name) for name, value in parsed.items() if is_empty(value)] if isinstance(parsed, dict) else []
    without = [name for name, value in LINE.findall(text) if is_empty(value)]
    return [*of_json, *without, *EMPTY_LINE.findall(text)]


def is_empty(value: object) -> bool:
    """Return whether a value, or a tool's whole output, holds nothing."""
    if isinstance(value, str):
        return value.strip().casefold() in ("", "null", "none", "n/a", "[]", "{}", "no results", "not found", '""')
    return value is None or value in ([], {})


def says_nothing(output: str) -> bool:
    """Return whether a tool's output holds no finding: nothing at all, or empty lists beside a zero count or an echo of
    the input.
    """
    if is_empty(output):
        return True
    parsed = _json_in(output)
    if not isinstance(parsed, dict) or not parsed:
        return False
    held = [value for value in parsed.values() if isinstance(value, list | dict)]
    beside = [value for value in parsed.values() if not isinstance(value, list | dict) and not is_empty(value)]
    return bool(held) and not any(held) and sum(map(bool, beside)) <= 1


def _json_in(text: str) -> Any:
    """The first JSON object or list that stands in a text, or None."""
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        try:
            return orjson.loads(stripped)
        except orjson.JSONDecodeError:
            pass
    for tries, start in enumerate(JSON_START.finditer(text)):
        if tries == MOST_TRIES:
            return None
        try:
            parsed, _ = DECODER.raw_decode(text, start.start())
        except ValueError:
            continue
        if isinstance(parsed, dict) or (parsed and isinstance(parsed[0], dict)):
            return parsed
    return None


def _flat(name: str, value: Any, tool: str | None) -> Iterator[Fact]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _flat(str(key), inner, tool)
        case list():
            for inner in value:
                yield from _flat(name, inner, tool)
        case str() if name and not is_empty(value):
            yield from (Fact(name, each, tool) for each in _listed(name, value))
        case int() | float() if name:
            yield Fact(name, value, tool)
        case _:
            return


def _listed(name: str, text: str) -> list[str]:
    """A text as the list it is, when its name is a plural: `isins: A; B`."""
    if not name.endswith("s") or ";" not in text:
        return [text]
    return [item for piece in text.split(";") if (item := piece.strip())]

"""Converts answers to JSON and back, and finds the values in them that a sink or a database would alter.

Kept is JSON, under the names that `answer_fields` gives. What JSON, 64 bits or a database would alter is found when the
model speaks, in words that it can act on.
"""

import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import orjson
from pydantic import BaseModel

from rowtide.job.answer_fields import LIST_OF, answer_fields, uses_aliases
from rowtide.json_bytes import may_exceed_64_bits

LEAST, MOST = -(2**63), 2**63 - 1  # what every database and reader takes for an integer
# Looked for in an answer's bytes at once, and rarely found.
NUL = b"\\u0000"
ZONE = re.compile(r"(z|[+-]\d\d(:?\d\d)?(:?\d\d)?)$", re.IGNORECASE)


def answer_to_json(claimed: BaseModel) -> bytes:
    """Return an answer as the JSON that the ledger keeps."""
    return claimed.model_dump_json(by_alias=uses_aliases(type(claimed))).encode()


def answer_from_json(answer: type[BaseModel], content: bytes | str) -> BaseModel:
    """Return a stored answer as the model. Raises ValidationError."""
    return answer.model_validate_json(content, by_alias=uses_aliases(answer), by_name=True)


def describe_alterations(claimed: BaseModel, content: bytes) -> list[str]:
    """Return the values of an answer that storing or loading would alter, in words: `score: inf is no number; give a
    finite one`.
    """
    found: list[str] = []
    if b"null" in content or b"NaN" in content or b"Infinity" in content:  # as pydantic writes what is no JSON number
        found += [f"{place}: {value} is not finite; give a finite number" for place, value in _not_finite(claimed)]
    found += [f"{place}: {what}" for place, what in unstorable_values(content)]
    if times := _times(type(claimed)):
        answer = orjson.loads(content) if not found else {}
        for name in times:
            value = answer.get(name)
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, str) and not ZONE.search(each.partition("T")[2]):
                    found.append(f"{name}: {each!r} has no zone; add one, such as {each}Z")
    return found


def unstorable_values(content: bytes) -> list[tuple[str, str]]:
    """Return the values of a stored answer that a sink might not hold: (place, why)."""
    if NUL not in content and not may_exceed_64_bits(content):
        return []
    return list(_unfit("", json.loads(content)))  # not orjson, to which a long integer is a float


def _unfit(place: str, value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for name, each in value.items():
                yield from _unfit(f"{place}.{name}" if place else name, each)
        case list():
            for each in value:
                yield from _unfit(place, each)
        case str() if "\0" in value:
            yield place, "holds a NUL character"
        case int() if not LEAST <= value <= MOST:
            yield place, "does not fit a 64-bit integer"
        case _:
            return


def _not_finite(claimed: BaseModel) -> Iterator[tuple[str, float]]:
    def walk(place: str, value: Any) -> Iterator[tuple[str, float]]:
        if isinstance(value, dict):
            for name, each in value.items():
                yield from walk(f"{place}.{name}" if place else str(name), each)
        elif isinstance(value, list | tuple):
            for each in value:
                yield from walk(place, each)
        elif isinstance(value, float) and not math.isfinite(value):
            yield place, value

    return walk("", claimed.model_dump(by_alias=uses_aliases(type(claimed))))


@lru_cache
def _times(answer: type[BaseModel]) -> list[str]:
    """The names of the fields that hold moments: their column has a time zone, so each value needs one."""
    return [each.name for each in answer_fields(answer) if each.kind in ("datetime", f"{LIST_OF}datetime")]

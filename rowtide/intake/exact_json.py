"""JSON as it is written: a number of more digits than a computer's is not rounded, and no name stands twice."""

import json
from decimal import Decimal
from typing import Any

import orjson


def parse_json_exactly(text: bytes) -> Any:
    """The value. A number that neither 64 bits nor a double hold becomes its digits, as text. Raises ValueError."""
    value = orjson.loads(text)
    try:
        # What is written again as it stood was read as it stands. Only what differs is looked at closely; mostly, it is
        # another way of writing the same.
        if orjson.dumps(value) == text.rstrip():
            return value
        return json.loads(text, parse_float=_number, parse_int=_integer, object_pairs_hook=_object)
    except (orjson.JSONEncodeError, RecursionError):
        raise ValueError("it is nested too deep") from None


def _integer(digits: str) -> int | str:
    """An integer, or its digits as text where 64 bits do not hold it."""
    value = int(digits) if len(digits) <= 20 else None
    return digits if value is None or not -(2**63) <= value < 2**64 else value


def _number(digits: str) -> float | str:
    """A number, or its digits as text where a double is another number."""
    value = float(digits)
    return value if Decimal(repr(value)) == Decimal(digits) else digits


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the name {name!r} stands twice in one object")
    return found

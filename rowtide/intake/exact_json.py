"""Parses JSON without loss: numbers with too many digits are not rounded, and duplicate names are refused."""

import json
from decimal import Decimal
from typing import Any

import orjson


def parse_json_exactly(text: bytes) -> Any:
    """Return the value. A number that neither 64 bits nor a double can hold becomes text. Raises ValueError."""
    value = orjson.loads(text)
    try:
        # If the value serializes to the same bytes, nothing was lost. Otherwise parse again slowly; mostly it was only
        # written in another way.
        if orjson.dumps(value) == text.rstrip():
            return value
        return json.loads(text, parse_float=_number, parse_int=_integer, object_pairs_hook=_object)
    except (orjson.JSONEncodeError, RecursionError):
        raise ValueError("it is nested too deep") from None


def _integer(digits: str) -> int | str:
    """Return an integer, or its digits as text if 64 bits cannot hold it."""
    value = int(digits) if len(digits) <= 20 else None
    return digits if value is None or not -(2**63) <= value < 2**64 else value


def _number(digits: str) -> float | str:
    """Return a number, or its digits as text if a double would change it."""
    value = float(digits)
    return value if Decimal(repr(value)) == Decimal(digits) else digits


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the name {name!r} stands twice in one object")
    return found

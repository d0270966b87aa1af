"""Converts a source's values to JSON values: types that JSON lacks become text, and a note says so.

Text, truth values, null, integers of 64 bits and finite numbers stay as they are.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

AS_WRITTEN = (
    *(Decimal, UUID, ipaddress.IPv4Address, ipaddress.IPv6Address),
    *(ipaddress.IPv4Interface, ipaddress.IPv6Interface, ipaddress.IPv4Network, ipaddress.IPv6Network),
)
DURATION = TypeAdapter(timedelta)
BIGGEST, SMALLEST = 2**64, -(2**63)
SAME = (str, bool, type(None))


class UnreadableValue(ValueError):
    """A value that no row can hold."""


def is_plain_value(value: object) -> bool:
    """Return whether a value needs no conversion. Lists and mappings are examined by `plain_value`."""
    kind = type(value)
    return kind in SAME or (kind is int and SMALLEST <= value < BIGGEST) or (kind is float and value - value == 0)  # pyright: ignore[reportOperatorIssue] # both are numbers


def plain_row(values: Mapping[str, object]) -> dict[str, object]:
    """Return a row with its values converted. Raises UnreadableValue naming the column."""
    try:
        return {name: value if is_plain_value(value) else plain_value(value) for name, value in values.items()}
    except (UnreadableValue, RecursionError) as error:
        name = next(name for name, value in values.items() if not _can_be_read(value))
        raise UnreadableValue(f"column {name!r}: {error}") from None


def plain_value(value: Any) -> object:
    """Return a value as a row holds it. Raises UnreadableValue."""
    if is_plain_value(value):
        return value
    match value:
        case str():
            return str(value)
        case int():
            return str(int(value))  # over 64 bits: its digits
        case float():
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        case Enum():
            return plain_value(value.value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case timedelta():
            return _duration(value)
        case datetime() | date() | time():
            return value.isoformat()
        case Mapping():
            return {str(name): plain_value(each) for name, each in value.items()}
        case tuple() if hasattr(value, "nanoseconds"):
            return _interval(value)
        case list() | tuple():
            return [plain_value(each) for each in value]
        case _ if hasattr(value, "tolist"):  # numpy's
            return plain_value(value.tolist())
        case _ if isinstance(value, AS_WRITTEN):
            return str(value)
        case _:
            raise UnreadableValue(f"a {type(value).__name__} cannot be part of a row; cast it to text in the source")


def _duration(value: Any) -> str:
    """Return a duration in ISO 8601; pandas' own class counts nanoseconds."""
    return value.isoformat() if hasattr(value, "isoformat") else DURATION.dump_python(value, mode="json")


def _interval(value: Any) -> str:
    """Return Arrow's months, days and nanoseconds in ISO 8601; none can be converted to another."""
    return f"P{value.months}M{value.days}DT{Decimal(value.nanoseconds).scaleb(-9):f}S"


def describe_conversions(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Return a sentence for each column whose values are converted."""
    found: dict[str, str] = {}
    for row in rows:
        for name, value in row.items():
            if not is_plain_value(value) and (what := _conversion_of(value)):
                found.setdefault(name, what)
    return [f"column {name!r}: {what}" for name, what in found.items()]


def _conversion_of(value: object) -> str | None:
    if isinstance(value, float):
        return "NaN and Infinity become the texts 'NaN' and 'Infinity'"
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes become hexadecimal text"
    if isinstance(value, int):
        return "integers of more than 64 bits become text"
    if isinstance(value, timedelta):
        return "durations become text (ISO 8601)"
    if isinstance(value, date | datetime | time):
        return "dates and times become text (ISO 8601)"
    return "decimals become text, every digit kept" if isinstance(value, Decimal) else None


def _can_be_read(value: object) -> bool:
    try:
        plain_value(value)
    except (UnreadableValue, RecursionError):
        return False
    return True

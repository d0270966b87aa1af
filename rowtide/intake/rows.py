"""What a row is: its values, its content as bytes, its identity."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import NamedTuple

import orjson

from rowtide.compact import compact_json


class SourceRow(NamedTuple):
    """One record as it was read; `line` is where."""

    line: int
    values: dict[str, object]


class BadRow(NamedTuple):
    """One record that could not be read, and why."""

    line: int
    reason: str
    detail: str
    key: str | None = None


def canonical(values: Mapping[str, object]) -> bytes:
    """The row's content as JSON with sorted keys: equal rows give equal bytes."""
    return compact_json(values, orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY, _plain)


def row_id(content: bytes) -> str:
    """The hash of a row's canonical content: 16 bytes of BLAKE2b, in hex."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def row_key(values: Mapping[str, object], columns: Sequence[str]) -> str | None:
    """The key the columns spell, or None when any of them is null or blank."""
    parts = ["" if (value := values.get(column)) is None else str(value).strip() for column in columns]
    if not all(parts):
        return None
    return parts[0] if len(parts) == 1 else orjson.dumps(parts).decode()


def _plain(value: object) -> object:
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} cannot be part of a row")

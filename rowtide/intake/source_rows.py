"""The row as a source gives it: its values, its canonical content, its key and its hash."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from rowtide.intake.plain_values import plain_value
from rowtide.json_bytes import dump_json

KEY_BYTES = 1024  # PostgreSQL indexes 2,704 bytes in all; a loaded row's key shares them with its job and sink


class SourceRow(NamedTuple):
    """One record as it was read; `line` is its place in the source."""

    line: int
    values: dict[str, object]


class BadRow(NamedTuple):
    """One record that could not be read, and why."""

    line: int
    reason: str
    detail: str
    key: str | None = None


def canonical_json(values: Mapping[str, object]) -> bytes:
    """Return the row's content as JSON with sorted keys: equal rows give equal bytes."""
    return dump_json(values, orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY, plain_value)


def row_id(content: bytes) -> str:
    """Return the hash of a row's canonical content: 16 bytes of BLAKE2b, in hex."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def row_key(values: Mapping[str, object], columns: Sequence[str]) -> str | None:
    """Return the key that the columns form, stripped, or None when any of them is null or blank."""
    parts = ["" if (value := values.get(column)) is None else str(value).strip() for column in columns]
    if not all(parts):
        return None
    return parts[0] if len(parts) == 1 else orjson.dumps(parts).decode()


def key_fault(key: str) -> str | None:
    """Return why a ledger cannot store this key, or None. SQLite and PostgreSQL have the same rule."""
    if "\0" in key:
        return "the key holds a NUL"
    if (size := len(key.encode("utf-8", "surrogatepass"))) > KEY_BYTES:
        return f"the key has {size:,} bytes; at most {KEY_BYTES:,} can be looked up"
    return None

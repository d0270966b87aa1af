"""What a row is: its values, its content as bytes, its identity."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from rowtide.intake.plain_values import plain_value
from rowtide.json_bytes import dump_json

KEY_BYTES = 1024  # PostgreSQL's index takes 2,704 in all, and beside a loaded row's key stand its job and its sink


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


def canonical_json(values: Mapping[str, object]) -> bytes:
    """The row's content as JSON with sorted keys: equal rows give equal bytes."""
    return dump_json(values, orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY, plain_value)


def row_id(content: bytes) -> str:
    """The hash of a row's canonical content: 16 bytes of BLAKE2b, in hex."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def row_key(values: Mapping[str, object], columns: Sequence[str]) -> str | None:
    """The key the columns spell, or None when any of them is null or blank. Spaces around it do not count."""
    parts = ["" if (value := values.get(column)) is None else str(value).strip() for column in columns]
    if not all(parts):
        return None
    return parts[0] if len(parts) == 1 else orjson.dumps(parts).decode()


def key_fault(key: str) -> str | None:
    """Why no ledger can know a row by this key; None where one can. SQLite and PostgreSQL go by the same rule."""
    if "\0" in key:
        return "the key holds a NUL"
    if (size := len(key.encode("utf-8", "surrogatepass"))) > KEY_BYTES:
        return f"the key has {size:,} bytes; at most {KEY_BYTES:,} can be looked up"
    return None

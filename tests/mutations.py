"""What a server may send instead of what it promises: valid JSON and bytes, changed at random but by a seed."""

import random
from collections.abc import Iterator
from typing import Any

import orjson

PAGE = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
DEEP = 3000
ODD: list[Any] = [
    None, {}, [], "", " ", 0, -1, 1.5, True, 10**18, "7", "\0", "a" * 200_000, [[]], [None], [1], {"type": 5},
    {"type": "hologram"}, [{"type": "text"}], [{"type": "text", "text": None}], [{"type": "text", "text": " "}],
    [{"type": "tool_use"}], [{"type": "tool_use", "id": 1, "name": None, "input": "x"}],
    [{"type": "tool_use", "id": "t", "name": "n", "input": {}}] * 2, [{"type": "thinking"}],
]  # fmt: skip
RAW = [b"NaN", b"Infinity", b'"\\ud800"', b"1" * 400, b"-1e999", b"[" * DEEP + b"]" * DEEP]
MARK = "a place to be filled"


def mutate(chance: random.Random, body: bytes) -> bytes:
    """A body of JSON changed in one place, or in its bytes."""
    match chance.randrange(10):
        case 0:
            return body[: chance.randrange(len(body))]
        case 1:
            return chance.choice([PAGE, b"", b"{}", b"[]", b"null", b'"ok"', b"\xff\xfe", b"{" + body])
        case 2:
            at = chance.randrange(len(body))
            return body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :]
        case _:
            return change_value(chance, body)


def change_value(chance: random.Random, body: bytes) -> bytes:
    """A body of JSON with one of its values changed."""
    found = orjson.loads(body)
    places = list(_places(found))
    if not places:
        return b"null"
    holder, key = chance.choice(places)
    match chance.randrange(4):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.append(holder[key])
        case 2:
            holder[key] = MARK
            return orjson.dumps(found).replace(orjson.dumps(MARK), chance.choice(RAW), 1)
        case _:
            holder[key] = chance.choice(ODD)
    return orjson.dumps(found)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a value: what holds it, and its key there."""
    keys: Any = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])

"""An API answer's shape without its texts, for people to send to others."""

import re
from typing import Any

import orjson

_WORD = re.compile(r"[a-z][a-z_]{1,39}|claude-[a-z0-9-]{1,40}")  # types, roles, reasons, models: the API's own words
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)")
# Where a text is the model's or a row's, even one that looks like a word of the API's.
_TEXTS = frozenset({"text", "message", "partial_json", "thinking", "signature", "custom_id", "id", "data"})


def redact(answer: bytes) -> Any:
    """The JSON with each text replaced by what it is; words that are the API's own, numbers and truth values stay."""
    try:
        return _redacted(orjson.loads(answer))
    except orjson.JSONDecodeError:
        return f"<{len(answer)} bytes that are not JSON>"


def stream_events(body: bytes) -> list[tuple[str, bytes]]:
    """The server-sent events of a body: (name, data)."""
    found: list[tuple[str, bytes]] = []
    for event in re.split(rb"\r?\n\r?\n", body):
        fields = dict(line.split(b":", 1) for line in event.splitlines() if b":" in line[1:])
        if b"data" in fields:
            found.append((fields.get(b"event", b"").strip().decode(errors="replace"), fields[b"data"].strip()))
    return found


def _redacted(value: Any, *, is_text: bool = False) -> Any:
    match value:
        case dict():
            return {name: _redacted_field(name, each) for name, each in value.items()}
        case list():
            return [_redacted(each, is_text=is_text) for each in value]
        case str() if _TIME.fullmatch(value):
            return "<time>"
        case str() if is_text or not _WORD.fullmatch(value):
            return f"<text of {len(value)} characters>"
        case _:
            return value


def _redacted_field(name: str, value: Any) -> Any:
    if name == "input" and isinstance(value, dict):  # of a tool call
        return f"<object of {len(value)} keys>"
    return _redacted(value, is_text=name in _TEXTS)

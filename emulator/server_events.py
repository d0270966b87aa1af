"""Write a message as server-sent events, in the API's order."""

from collections.abc import Iterator
from typing import Any

import orjson

# A few tokens, as they are seen to arrive.
LETTERS_PER_DELTA = 12
OPENINGS: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "tool_use": {"input": {}},
    "server_tool_use": {"input": {}},
    "mcp_tool_use": {"input": {}},
    "thinking": {"thinking": "", "signature": ""},
}


def events_of(message: dict[str, Any]) -> Iterator[bytes]:
    usage = message["usage"]
    opening = {"content": [], "stop_reason": None, "stop_details": None, "usage": {**usage, "output_tokens": 1}}
    yield _event({"type": "message_start", "message": message | opening})
    for index, block in enumerate(message["content"]):
        opened = block | OPENINGS.get(block["type"], {})
        yield _event({"type": "content_block_start", "index": index, "content_block": opened})
        if index == 0:
            yield PING
        for delta in _deltas(block):
            yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    stop = {name: message[name] for name in ("stop_reason", "stop_sequence", "stop_details", "container")}
    yield _event({"type": "message_delta", "delta": stop, "usage": usage})
    yield _event({"type": "message_stop"})


def is_delta(event: bytes) -> bool:
    return event.startswith(b"event: content_block_delta")


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "thinking":
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "text":
        for piece in _pieces(block["text"]):
            yield {"type": "text_delta", "text": piece}
    elif "input" in block:
        for piece in ("", *_pieces(orjson.dumps(block["input"]).decode())):
            yield {"type": "input_json_delta", "partial_json": piece}


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + LETTERS_PER_DELTA] for at in range(0, len(text), LETTERS_PER_DELTA))


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), orjson.dumps(data))


PING = _event({"type": "ping"})

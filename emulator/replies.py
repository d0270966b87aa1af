"""Make the reply message for a request: content blocks, stop reason, usage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from emulator.habits import AS_EVER, Temper
from emulator.identifiers import derived_id
from emulator.minds import Thought, think
from emulator.models import Model
from emulator.thinking import Heard, thinking_block
from emulator.tokens import Prefix, text_tokens, usage
from emulator.twists import twisted

CUT_SHORT = ("max_tokens", "model_context_window_exceeded")
# With it, a reply says which thinking of the request its model did not hear.
TELLS_WHAT_WAS_DROPPED = "thinking-binding-controls-2026-08-01"


@dataclass(frozen=True, slots=True)
class Occasion:
    """The place where a reply is given. `identity` makes its ids: the same one gives the same message."""

    workspace: str
    identity: str
    is_batch: bool
    temper: Temper = AS_EVER
    betas: tuple[str, ...] = ()


def reply(
    params: dict[str, Any],
    model: Model,
    occasion: Occasion,
    *,
    seen: Heard,
    prefix: Prefix | None,
    creates_cache: bool,
    twist: Mapping[str, Any] | None = None,
    thought: Thought | None = None,
) -> dict[str, Any]:
    """Return the message. `seen` is what the model hears of the request; for `twist` see twists.py.

    `thought` is what the reply says, if it had to be found out with the help of MCP servers.
    """
    thought = twisted(thought or think(params, model.tier, occasion.temper), twist or {})
    thinks = model.thinks(params.get("thinking"))
    thinking = min(thought.thinking, params["max_tokens"]) if thinks else 0
    content, output, stop_reason = _fitted(thought, occasion.identity, params["max_tokens"] - thinking)
    if thinks:
        content.insert(0, thinking_block(params, model.id, occasion.workspace))
    used = usage(
        thought.prompts or [seen.params], thinking + output, prefix, creates=creates_cache, batch=occasion.is_batch
    )
    if thinking:
        used["output_tokens_details"] = {"thinking_tokens": thinking}
    message = {
        "id": derived_id("msg", occasion.identity),
        "type": "message",
        "role": "assistant",
        "model": model.id,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "stop_details": thought.stop_details,
        "container": None,
        "usage": used,
    }
    if thought.made_up:
        message["emulator"] = {"made_up": [*thought.made_up]}
    return message | ({"input_transformations": seen.dropped} if TELLS_WHAT_WAS_DROPPED in occasion.betas else {})


def _fitted(thought: Thought, identity: str, room: int) -> tuple[list[dict[str, Any]], int, str]:
    """As much of what is to be said as there is room for, its tokens, and why it stops."""
    content = [_with_id(block, identity, at) for at, block in enumerate(thought.content)]
    output = sum(text_tokens(block) for block in content if block["type"] != "mcp_tool_result")
    if output <= room and thought.stop_reason not in CUT_SHORT:
        return content, output, thought.stop_reason
    stop_reason = thought.stop_reason if thought.stop_reason in CUT_SHORT else "max_tokens"
    if room == 0:
        return [], 0, stop_reason
    output = min(room, max(1, output // 2))
    return _cut(content, output), output, stop_reason


def _with_id(block: dict[str, Any], identity: str, at: int) -> dict[str, Any]:
    if block["type"] == "tool_use":
        return {"type": "tool_use", "id": derived_id("toolu", identity, str(at)), **block, "caller": {"type": "direct"}}
    if block["type"] == "server_tool_use":
        return {"type": "server_tool_use", "id": derived_id("srvtoolu", identity, str(at)), **block}
    return block


def _cut(content: list[dict[str, Any]], tokens: int) -> list[dict[str, Any]]:
    """What was said within so many tokens: whole blocks, then a piece of a text."""
    kept: list[dict[str, Any]] = []
    left = tokens * 4
    for block in content:
        size = 0 if block["type"] == "mcp_tool_result" else len(orjson.dumps(block))
        if size <= left:
            kept.append(block)
        elif block["type"] == "text":
            kept.append({"type": "text", "text": block["text"][: max(1, left)]})
        left -= size
        if left <= 0:
            break
    return kept or [{"type": "text", "text": "…"}]

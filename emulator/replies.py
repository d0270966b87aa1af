"""From a request to the message that answers it: a mind's words, in the API's clothes, with what they cost."""

from collections.abc import Mapping
from typing import Any

import orjson

from emulator.identifiers import derived_id
from emulator.minds import Thought, think
from emulator.models import Model
from emulator.thinking import thinking_block
from emulator.tokens import Prefix, text_tokens, usage
from emulator.twists import twisted

CUT_SHORT = ("max_tokens", "model_context_window_exceeded")


def reply(
    params: dict[str, Any],
    model: Model,
    *,
    workspace: str,
    identity: str,
    prefix: Prefix | None,
    creates_cache: bool,
    batch: bool,
    twist: Mapping[str, Any] | None = None,
    thought: Thought | None = None,
) -> dict[str, Any]:
    """The message. `identity` makes its ids: the same one gives the same message. `twist`: see twists.py.

    `thought` is what is to be said, when that had to be found out with the help of MCP servers.
    """
    thought = twisted(thought or think(params, model.tier), twist or {})
    content = [_with_id(block, identity, at) for at, block in enumerate(thought.content)]
    stop_reason = thought.stop_reason
    output = sum(text_tokens(block) for block in content if block["type"] != "mcp_tool_result")
    if output > params["max_tokens"] or stop_reason in CUT_SHORT:
        content = _cut(content, min(params["max_tokens"], max(1, output // 2)))
        stop_reason = stop_reason if stop_reason in CUT_SHORT else "max_tokens"
        output = min(params["max_tokens"], max(1, output // 2))
    if model.thinks(params.get("thinking")):
        content.insert(0, thinking_block(params, model.id, workspace))
    return {
        "id": derived_id("msg", identity),
        "type": "message",
        "role": "assistant",
        "model": model.id,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "stop_details": thought.stop_details,
        "container": None,
        "usage": usage(thought.prompts or [params], output, prefix, creates=creates_cache, batch=batch),
    }


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

"""Validate `messages` as the API does: roles, blocks, tool calls without results."""

import re
from typing import Any

from emulator.models import Model
from emulator.problems import invalid

ROLES = ("user", "assistant", "system")
LEGAL_ID = re.compile(r"[a-zA-Z0-9_-]+\Z")
BLOCKS = {
    "text", "image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result",
    "server_tool_use", "web_search_tool_result", "container_upload",
    "mcp_tool_use", "mcp_tool_result",
}  # fmt: skip
SERVERS_BLOCKS = ("mcp_tool_use", "mcp_tool_result")
# A block of a kind there is no such thing as, which fault injection put into a reply, is accepted when it comes back.
INVENTED = {"invented_by": "emulator"}
# A turn that was paused ends with one of these.
PAUSES = ("server_tool_use", *SERVERS_BLOCKS)
MOST_MESSAGES = 100_000


def check_messages(params: dict[str, Any], model: Model, *, newest: bool) -> None:
    messages = params["messages"]
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    if len(messages) > MOST_MESSAGES:
        raise invalid(f"messages: List should have at most {MOST_MESSAGES} items after validation")
    for at, message in enumerate(messages):
        _check_message(at, message, newest=newest)
    if messages[0]["role"] == "assistant":
        raise invalid('messages: first message must use the "user" role')
    if len(messages) > 1:
        _check_pairs(messages)
    elif any(block["type"] == "tool_result" for block in blocks(messages[0])):
        _check_results(0, blocks(messages[0]), set())
    _check_prefill(messages[-1], model)


def blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a message's content as blocks; a string is one text block."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _check_message(at: int, message: object, *, newest: bool) -> None:
    if not isinstance(message, dict):
        raise invalid(f"messages.{at}: Input should be an object")
    if message.get("role") not in ROLES:
        problem = "Field required" if "role" not in message else "Input should be 'user', 'assistant' or 'system'"
        raise invalid(f"messages.{at}.role: {problem}")
    content = message.get("content")
    if content is None:
        raise invalid(f"messages.{at}.content: Field required")
    for field in message:
        if field not in ("role", "content"):
            raise invalid(f"messages.{at}.{field}: Extra inputs are not permitted")
    if isinstance(content, str):
        if not content.strip():
            raise invalid(f"messages.{at}: {message['role']} messages must have non-empty content")
        return
    if not isinstance(content, list):
        raise invalid(f"messages.{at}.content: Input should be a valid string or list")
    if not content:
        raise invalid(f"messages.{at}: {message['role']} messages must have non-empty content")
    for place, block in enumerate(content):
        _check_block(f"messages.{at}.content.{place}", message["role"], block, newest=newest)
    if message["role"] == "assistant":
        _check_servers_results(at, content)


def _check_block(place: str, role: str, block: object, *, newest: bool) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if isinstance(block, dict) and isinstance(kind, str) and block.items() >= INVENTED.items() and role == "assistant":
        return
    if not isinstance(block, dict) or kind not in BLOCKS:
        raise invalid(f"{place}: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "text":
        check_text("messages", f"{place}.text", block)
        if newest and role == "user" and block.get("citations"):
            raise invalid(f"{place}.text.citations: Extra inputs are not permitted")
    elif kind == "tool_use":
        if role != "assistant":
            raise invalid(f"{place}: `tool_use` blocks can only be in `assistant` messages")
        if not isinstance(block.get("input"), dict):
            raise invalid(f"{place}.tool_use.input: Input should be an object")
        _check_id(f"{place}.tool_use.id", block.get("id"))
    elif kind == "tool_result":
        if role != "user":
            raise invalid(f"{place}: `tool_result` blocks can only be in `user` messages")
        _check_result_content(f"{place}.tool_result", block.get("content"))
    elif kind in SERVERS_BLOCKS and role != "assistant":
        raise invalid(f"{place}: `{kind}` blocks can only be in `assistant` messages")
    elif kind == "document" and role == "assistant" and newest:
        raise invalid(f"{place}: `document` blocks are not permitted in `assistant` messages")


def check_text(part: str, place: str, block: dict[str, Any]) -> None:
    """Check a text block of `messages` or of `system`. Raises Problem."""
    text = block.get("text")
    if not isinstance(text, str):
        raise invalid(f"{place}.text: Field required")
    if not text:
        if block.get("cache_control"):
            raise invalid(f"{place}: cache_control cannot be set for empty text blocks")
        raise invalid(f"{part}: text content blocks must be non-empty")
    if not text.strip():
        raise invalid(f"{part}: text content blocks must contain non-whitespace text")


def _check_id(place: str, given: object) -> None:
    if not isinstance(given, str) or not LEGAL_ID.match(given):
        raise invalid(f"{place}: String should match pattern '^[a-zA-Z0-9_-]+$'")


def _check_result_content(place: str, content: object) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise invalid(f"{place}.content: Input should be a valid string or list")
    for at, block in enumerate(content):
        if isinstance(block, dict) and block.get("type") == "text":
            check_text("messages", f"{place}.content.{at}.text", block)


def _check_servers_results(at: int, content: list[dict[str, Any]]) -> None:
    """What an MCP server said stands after its call, in the same message."""
    asked = set()
    for place, block in enumerate(content):
        if block["type"] == "mcp_tool_use":
            if not isinstance(block.get("input"), dict):
                raise invalid(f"messages.{at}.content.{place}.mcp_tool_use.input: Input should be an object")
            for field in ("id", "name", "server_name"):
                if not isinstance(block.get(field), str):
                    raise invalid(f"messages.{at}.content.{place}.mcp_tool_use.{field}: Field required")
            asked.add(block["id"])
        elif block["type"] == "mcp_tool_result" and block.get("tool_use_id") not in asked:
            raise invalid(
                f"messages.{at}.content.{place}: unexpected `tool_use_id` found in `mcp_tool_result` blocks: "
                f"{block.get('tool_use_id')}. Each `mcp_tool_result` block must have a corresponding `mcp_tool_use` "
                "block before it."
            )


def _check_pairs(messages: list[dict[str, Any]]) -> None:
    asked: set[str] = set()
    for at, message in enumerate(messages):
        content = blocks(message)
        if message["role"] == "user":
            _check_results(at, content, asked)
        elif message["role"] == "assistant" and asked:
            raise _unanswered(at, sorted(asked))
        if message["role"] != "system":
            asked = {str(block.get("id")) for block in content if block["type"] == "tool_use"}
    if asked:
        raise _unanswered(len(messages), sorted(asked))


def _check_results(at: int, content: list[dict[str, Any]], asked: set[str]) -> None:
    answered: set[str] = set()
    others_before = False
    for place, block in enumerate(content):
        if block["type"] != "tool_result":
            others_before = True
            continue
        call_id = block.get("tool_use_id")
        if call_id not in asked:
            raise invalid(
                f"messages.{at}.content.{place}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. "
                "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if call_id in answered:
            raise invalid(
                f"messages.{at}.content.{place}: each tool_use must have a single result. "
                f"Found multiple `tool_result` blocks with id: {call_id}"
            )
        if others_before:
            raise invalid(f"messages.{at}: `tool_result` blocks must come first in the content of a `user` message")
        answered.add(call_id)
    if asked - answered:
        raise _unanswered(at, sorted(asked - answered))


def _unanswered(at: int, call_ids: list[str]) -> Exception:
    return invalid(
        f"messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(call_ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
        "message."
    )


def _check_prefill(last: dict[str, Any], model: Model) -> None:
    # A paused turn ends with a server tool's call or its result, and is resent as it stands: that is no prefill.
    if last["role"] != "assistant" or model.prefill or blocks(last)[-1]["type"] in PAUSES:
        return
    raise invalid(
        "This model does not support assistant message prefill. The conversation must end with a user message."
    )

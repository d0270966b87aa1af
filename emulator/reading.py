"""Parse a request as a mind reads it: row, instructions, tool results and number of corrections."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from emulator.conversation import blocks
from emulator.facts import Fact, facts_in, says_nothing
from emulator.words import plain

# A section in tags at the end of the first message is about the row, and is not the row: `<notes>` … `</notes>`.
SECTION = re.compile(r"\s*^<([a-z]\w*)>\n.*^</\1>\s*\Z", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call made earlier in the conversation, and what came of it."""

    tool: str
    arguments: bytes
    output: str
    is_error: bool

    @property
    def failed(self) -> bool:
        return self.is_error or says_nothing(self.output)


@dataclass
class Reading:
    instructions: str
    row_text: str
    schema: dict[str, Any] | None
    calls: list[ToolCall] = field(default_factory=list)
    corrections: int = 0
    feedback: str = ""
    """What it was told last of its answers."""
    heeded: str = ""
    """The same, if it heeds that."""
    said: str = ""
    """What it answered last."""
    was_paused: bool = False
    effort: str | None = None
    """As the request names it."""
    by_features: bool = False
    """Whether what is hard about a row follows from what can be seen of it."""

    @cached_property
    def row_facts(self) -> list[Fact]:
        return facts_in(self.row_text)

    @cached_property
    def last_answer(self) -> Mapping[str, Any]:
        """Return the last answer in the conversation, if it was an object."""
        try:
            said = orjson.loads(self.said)
        except orjson.JSONDecodeError:
            return {}
        return said if isinstance(said, dict) else {}

    @cached_property
    def tool_facts(self) -> list[Fact]:
        good = [call for call in self.calls if not call.failed]
        return [fact for call in good for fact in facts_in(call.output, call.tool)]

    @cached_property
    def outputs(self) -> list[str]:
        return [call.output for call in self.calls if not call.failed]

    @cached_property
    def knowledge(self) -> str:
        """All there is to know, as plain words to look phrases up in."""
        return plain(" ".join((self.row_text, *self.outputs)))


def read(params: dict[str, Any], hardness: str = "text") -> Reading:
    messages, output = params["messages"], params.get("output_config") or {}
    form = output.get("format")
    first = _text(messages[0]["content"])
    row_text = without_postscript(first) if "</" in first else first
    reading = Reading(_text(params.get("system")), row_text, form["schema"] if form else None)
    reading.effort, reading.by_features = output.get("effort"), hardness == "features"
    asked: dict[str, tuple[str, bytes]] = {}
    for message in messages[1:]:
        for block in blocks(message):
            match block["type"]:
                case "tool_use":
                    asked[block["id"]] = (block["name"], as_key(block["input"]))
                case "tool_result" | "mcp_tool_result":
                    tool, arguments = asked[block["tool_use_id"]]
                    output = _text(block.get("content"))
                    reading.calls.append(ToolCall(tool, arguments, output, bool(block.get("is_error"))))
                case "mcp_tool_use":
                    asked[block["id"]] = (server_tool(block["server_name"], block["name"]), as_key(block["input"]))
                case "server_tool_use":
                    reading.was_paused = True
                case _:
                    pass
        if message["role"] == "assistant":
            reading.said = _text(message["content"])
        elif message["role"] == "user" and _is_correction(message):
            reading.corrections += 1
            reading.feedback = _text(message["content"])
    return reading


def without_postscript(first: str) -> str:
    """Return the message without a section at its end; a message that is nothing but sections is kept whole."""
    before = SECTION.sub("", first)
    return before if SECTION.sub("", before).strip() else first


def server_tool(server: str, tool: str) -> str:
    """Return a mind's name for the tool of an MCP server. No tool of a client can have such a name."""
    return f"{server}/{tool}"


def as_key(arguments: Mapping[str, Any]) -> bytes:
    """Return arguments in a form that is equal for equal calls."""
    return orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)


def _is_correction(message: Mapping[str, Any]) -> bool:
    return isinstance(message["content"], str) or all(block["type"] == "text" for block in message["content"])


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(block.get("text") or "" for block in content if block["type"] == "text")

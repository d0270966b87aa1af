"""Replies by rule: a pure function of the request, knowing no job, costing nothing.

A mind calls every tool whose inputs it can fill, then answers in the shape asked for, and is wrong on a repeatable
share of rows. Markers in the row's text make it stop for other reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from emulator.answers import answer
from emulator.mistakes import Mistake, mistakes_of
from emulator.reading import Reading, read
from emulator.tool_choice import next_calls

StopReason = Literal["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn"]


@dataclass(frozen=True, slots=True)
class Thought:
    """What a mind says, before it is given ids and a price."""

    content: list[dict[str, Any]]
    stop_reason: StopReason = "end_turn"
    stop_details: Mapping[str, Any] | None = None


def think(params: dict[str, Any], tier: str) -> Thought:
    """The reply to a request by a model of this tier."""
    reading = read(params)
    if "[emulator:" in reading.row_text and (marked := _marked(reading)):
        return marked
    mistakes: Sequence[Mistake] = mistakes_of(reading, tier)
    tools: Sequence[Mapping[str, Any]] = params.get("tools") or ()
    choice: Mapping[str, Any] = params.get("tool_choice") or {}
    if not tools:
        mistakes = [kind for kind in mistakes if kind != "skipped_tools"]
    if list(mistakes[:1]) != ["skipped_tools"] or choice.get("type") in ("any", "tool"):
        calls = next_calls(reading, tools, choice)
        if calls:
            return Thought(calls, "tool_use")
    if reading.schema is None:
        text = _closing_words(reading)
    else:
        text = orjson.dumps(answer(reading, reading.schema, mistakes)).decode()
    stop_reason = "max_tokens" if "[emulator:truncate]" in reading.row_text else "end_turn"
    return Thought([{"type": "text", "text": text}], stop_reason)


def _marked(reading: Reading) -> Thought | None:
    if "[emulator:refuse]" in reading.row_text:
        details = {"type": "refusal", "category": "general_harms", "explanation": "The row asked to be refused."}
        return Thought([], "refusal", details)
    if "[emulator:pause]" in reading.row_text and not reading.was_paused:
        search = {"type": "server_tool_use", "name": "web_search", "input": {"query": "more time"}}
        return Thought([search], "pause_turn")
    return None


def _closing_words(reading: Reading) -> str:
    facts = [*reading.tool_facts, *reading.row_facts][:3]
    if not facts:
        return "Done."
    return f"Done. {'; '.join(f'{fact.name}: {fact.value}' for fact in facts)}."

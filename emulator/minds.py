"""Make replies by rule: a pure function of the request that knows no job.

A mind calls every tool whose inputs it can fill, then answers in the shape asked for, and is wrong on a repeatable
share of rows. Markers in the row's text make it stop for other reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from emulator.answers import answer
from emulator.effort import USUAL, thinking_tokens
from emulator.habits import AS_EVER, Temper, slips_of
from emulator.judging import verdict, wants_verdict
from emulator.mistakes import is_hard, mends
from emulator.obedience import obeyed
from emulator.pairs import comparison, wants_comparison
from emulator.reading import Reading, read
from emulator.tool_choice import next_calls, unfillable_inputs


@dataclass(frozen=True, slots=True)
class Thought:
    """What a mind says, before it is given ids and a price."""

    content: list[dict[str, Any]]
    stop_reason: str = "end_turn"
    stop_details: Mapping[str, Any] | None = None
    prompts: Sequence[dict[str, Any]] = ()
    """What was read in each of several steps; empty when there was one, and it read the request."""
    thinking: int = 0
    """How many tokens were thought before it was said."""
    made_up: Sequence[str] = ()
    """What of it says nothing of the job, in sentences."""


def think(params: dict[str, Any], tier: str, temper: Temper = AS_EVER) -> Thought:
    """The reply to a request by a model of this tier.

    What is thought is counted when the request names an effort, or hardness follows from features.
    """
    reading = read(params, temper.hardness)
    reading.heeded = reading.feedback if mends(reading, tier) else ""
    thought = _said(params, reading, tier, temper)
    effort = reading.effort or (USUAL[tier] if reading.by_features else None)
    if effort is None:
        return thought
    is_a_hard_one = is_hard(reading.row_text, by_features=reading.by_features)
    return replace(thought, thinking=thinking_tokens(reading.row_text, effort, is_hard=is_a_hard_one))


def _said(params: dict[str, Any], reading: Reading, tier: str, temper: Temper) -> Thought:
    is_marked = "[emulator:" in reading.row_text
    if is_marked and (marked := _marked(reading)):
        return marked
    tools: Sequence[Mapping[str, Any]] = params.get("tools") or ()
    choice: Mapping[str, Any] = params.get("tool_choice") or {}
    if (is_marked or reading.calls) and (ordered := obeyed(reading, tools, choice)):
        return Thought([ordered], "tool_use" if ordered["type"] == "tool_use" else "end_turn")
    known = temper.known.to(reading.row_text)
    if reading.schema is not None and wants_verdict(reading.schema):
        said = verdict(reading, reading.schema, tier, known)
        return Thought([{"type": "text", "text": orjson.dumps(said).decode()}])
    if reading.schema is not None and wants_comparison(reading.schema):
        compared = comparison(reading, reading.schema, tier, known)
        return Thought([{"type": "text", "text": orjson.dumps(compared).decode()}])
    slips = [] if known else slips_of(reading, params["model"], tier, temper)
    if not tools:
        slips = [slip for slip in slips if slip.mistake != "skipped_tools"]
    if not slips or slips[0].mistake != "skipped_tools" or choice.get("type") in ("any", "tool"):
        calls = next_calls(reading, tools, choice)
        if calls:
            return Thought(calls, "tool_use")
    made_up = unfillable_inputs(reading, tools) if choice.get("type") != "none" else []
    if reading.schema is None:
        text = _closing_words(reading)
    else:
        filled = answer(reading, reading.schema, slips, known)
        text, made_up = orjson.dumps(filled.value).decode(), [*made_up, *filled.made_up]
    stop_reason = "max_tokens" if "[emulator:truncate]" in reading.row_text else "end_turn"
    return Thought([{"type": "text", "text": text}], stop_reason, made_up=made_up)


def _marked(reading: Reading) -> Thought | None:
    if "[emulator:refuse]" in reading.row_text:
        return refused("The row asked to be refused.")
    if "[emulator:pause]" in reading.row_text and not reading.was_paused:
        return paused()
    return None


def refused(explanation: str) -> Thought:
    return Thought([], "refusal", {"type": "refusal", "category": "general_harms", "explanation": explanation})


def paused() -> Thought:
    """In the middle of a server tool's work: it goes on when it is sent back as it stands."""
    search = {"type": "server_tool_use", "name": "web_search", "input": {"query": "more time"}}
    return Thought([search], "pause_turn")


def _closing_words(reading: Reading) -> str:
    facts = [*reading.tool_facts, *reading.row_facts][:3]
    if not facts:
        return "Done."
    return f"Done. {'; '.join(f'{fact.name}: {fact.value}' for fact in facts)}."

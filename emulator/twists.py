"""Replies with a twist: billed, but with an odd stop reason, an unknown block, or prose instead of JSON."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from emulator.conversation import INVENTED
from emulator.minds import Thought, paused, refused

PROSE = "I have looked at this record with care. On balance it seems fine to me, but I would rather not commit myself."


def twisted(thought: Thought, twist: Mapping[str, Any]) -> Thought:
    """Return the reply after the twist: one of a plan's `stop`, `block` and `not_json`."""
    match dict(twist):
        case {"stop": "refusal"}:
            return refused("The plan of faults says so.")
        case {"stop": "pause_turn"}:
            return paused()
        case {"stop": str(reason)}:
            return replace(thought, stop_reason=reason)
        case {"block": str(kind)}:
            return replace(thought, content=[{"type": kind, **INVENTED}, *thought.content])
        case {"not_json": True}:
            return Thought([{"type": "text", "text": PROSE}])
        case _:
            return thought

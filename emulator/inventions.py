"""Invent a value of the right type where nothing is known, so that nobody mistakes it for a finding."""

import re
from collections.abc import Sequence
from typing import Any

from emulator.facts import Fact
from emulator.patterns import example_of
from emulator.schemas import FORMATS, Schema
from emulator.words import words

ESTIMATES = frozenset({"confidence", "probability", "certainty", "likelihood", "score", "rating"})
REASONS = {
    "reason", "reasoning", "rationale", "explanation", "justification", "why", "summary", "note", "comment",
}  # fmt: skip
RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:to|and|-|–|\.\.)\s*(-?\d+(?:\.\d+)?)")
LIMIT = re.compile(
    r"(?:at most|max(?:imum)?(?: of)?|up to|under|no more than|fewer than|less than|not exceed)\s+(\d+)\s+"
    r"(characters|letters|words)",
    re.IGNORECASE,
)


def invented(schema: Schema, name: str, facts: Sequence[Fact], chance: int) -> Any:
    """A stopgap for a scalar of this schema."""
    description = str(schema.get("description", ""))
    match schema["type"]:
        case "string" if schema.get("pattern"):
            return example_of(schema["pattern"])
        case "string" if schema.get("format") in FORMATS:
            return FORMATS[schema["format"]][0]
        case "string" if REASONS.intersection(words(name)):
            return within_limit(_reason(facts), description)
        case "string":
            return within_limit("unknown", description)
        case "boolean":
            return False
        case "integer" | "number" as kind:
            low, high = range_of(name, description) or (0.0, 0.0)
            value = low + (high - low) * (chance % 5) / 4
            return int(value) if kind == "integer" else value
        case _:
            return None


def is_estimate(name: str) -> bool:
    """Whether a number is the model's own judgement, such as its confidence."""
    return not ESTIMATES.isdisjoint(words(name))


def range_of(name: str, description: str) -> tuple[float, float] | None:
    """The bounds that a description gives for a number."""
    found = RANGE.search(description)
    if found:
        low, high = float(found[1]), float(found[2])
        return (low, high) if low < high else None
    return (0.0, 1.0) if is_estimate(name) else None


def within_limit(text: str, description: str) -> str:
    """As much of a text as its description allows."""
    found = LIMIT.search(description)
    if not found:
        return text
    most = int(found[1])
    return " ".join(text.split()[:most]) if found[2].casefold() == "words" else text[:most].strip()


def _reason(facts: Sequence[Fact]) -> str:
    said = [f"{fact.name} is {fact.value}" for fact in facts if len(str(fact.value)) <= 120][:2]
    return f"Because {' and '.join(said)}." if said else "Because nothing speaks against it."

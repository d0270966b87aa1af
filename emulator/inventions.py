"""Make up a value that fits its schema when nothing is known: in range, long enough, in words of the row."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
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
DATED = re.compile(r"YYYY-MM-DD|ISO[ -]?8601", re.IGNORECASE)
DATES = {"date", "day", "deadline"}
AHEAD = {"due", "deadline", "expiry", "expire", "expires", "until", "renewal", "next", "planned"}
FIRST_DAY, YEARS_AHEAD = date(2024, 1, 1), 20  # most dates are of the past
LONGEST_QUOTE = 200
SPAN = 100  # of a number that only has one end, or none


def invented(schema: Schema, name: str, facts: Sequence[Fact], row_text: str, chance: int) -> Any:
    """Return a value for a scalar of this schema; `chance` draws it."""
    kind = schema["type"]
    if examples := [each for each in schema.get("examples") or () if isinstance(each, TYPES.get(kind, ()))]:
        return examples[chance % len(examples)]
    match kind:
        case "string":
            return _text(schema, name, facts, row_text, chance)
        case "boolean":
            return False
        case "integer" | "number":
            return _number(schema, name, chance)
        case _:
            return None


def is_estimate(name: str) -> bool:
    """Return whether a number is the model's own estimate, such as its confidence."""
    return not ESTIMATES.isdisjoint(words(name))


def range_of(schema: Schema, name: str) -> tuple[float, float] | None:
    """Return the bounds of a number: those of its schema, else those in the words of its description."""
    low, high = _ends(schema)
    if low is not None and high is not None:
        return low, high
    if low is None and high is None and (found := RANGE.search(str(schema.get("description", "")))):
        low, high = float(found[1]), float(found[2])
        return (low, high) if low < high else None
    return (low or 0.0, 1.0 if high is None else high) if is_estimate(name) and (low or 0) < 1 else None


def fits(schema: Schema, value: Any) -> bool:
    """Return whether a scalar keeps to the limits of its schema."""
    if isinstance(value, str):
        is_long_enough = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        pattern = schema.get("pattern")
        return is_long_enough and (not pattern or re.search(pattern, value) is not None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    low, high = _ends(schema)
    return (low is None or low <= value) and (high is None or value <= high)


def within_limit(text: str, schema: Schema) -> str:
    """Return as much of a text as its schema, or its description, allows."""
    text = text[: schema["maxLength"]].rstrip() if "maxLength" in schema else text
    found = LIMIT.search(str(schema.get("description", "")))
    if not found:
        return text
    most = int(found[1])
    return " ".join(text.split()[:most]) if found[2].casefold() == "words" else text[:most].strip()


def _ends(schema: Schema) -> tuple[float | None, float | None]:
    """The least and the greatest number allowed; a limit that is itself excluded is taken to the next number."""
    step = 1 if schema.get("type") == "integer" else 0.01
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - step
    return low, high


def _number(schema: Schema, name: str, chance: int) -> int | float:
    low, high = _ends(schema)
    if bounds := range_of(schema, name):
        low, high = bounds
    elif low is None:
        low = 1.0 if high is None or high > 1 else high - SPAN
    high = low + SPAN if high is None else high
    step = schema.get("multipleOf") or (1 if schema["type"] == "integer" else None)
    if step:
        first, last = -(-low // step), high // step
        value = (first + chance % int(max(1, last - first + 1))) * step
        return int(value) if float(value).is_integer() else value
    value = round(low + (high - low) * (chance % 101) / 100, 2)
    return value if fits(schema, value) else low


def _text(schema: Schema, name: str, facts: Sequence[Fact], row_text: str, chance: int) -> str:
    if schema.get("pattern"):
        return example_of(schema["pattern"], schema.get("minLength", 0))
    if schema.get("format") in FORMATS:
        return _of_format(schema["format"], name, chance)
    if DATED.search(str(schema.get("description", ""))) or DATES.intersection(words(name)[-1:]):
        return _of_format("date", name, chance)
    text = _reason(facts) if REASONS.intersection(words(name)) else _quoted(facts, row_text)
    least = schema.get("minLength", 0)
    return within_limit(text if len(text) >= least else text.ljust(least, "."), schema)


def _of_format(form: str, name: str, chance: int) -> str:
    if form not in ("date", "date-time"):
        return FORMATS[form][0]
    years = 0 if AHEAD.isdisjoint(words(name)) else YEARS_AHEAD
    day = (FIRST_DAY + timedelta(days=chance % 365 + 365 * years)).isoformat()
    return day if form == "date" else f"{day}T{chance % 24:02}:00:00Z"


def _quoted(facts: Sequence[Fact], row_text: str) -> str:
    """Words of the tools or, without any, of the row: the longest text that is not too long."""
    tools = [fact for fact in facts if fact.tool]
    texts = [str(fact.value) for fact in tools or facts if isinstance(fact.value, str)]
    short = [text for text in texts if len(text) <= LONGEST_QUOTE]
    text = max(short, key=len, default="") or next(iter(texts), "") or " ".join(row_text.split())
    return text[:LONGEST_QUOTE].strip() or "unknown"


def _reason(facts: Sequence[Fact]) -> str:
    said = [f"{fact.name} is {fact.value}" for fact in facts if len(str(fact.value)) <= 120][:2]
    return f"Because {' and '.join(said)}." if said else "Because nothing speaks against it."


TYPES: Mapping[str, Any] = {"string": str, "integer": int, "number": (int, float), "boolean": bool}

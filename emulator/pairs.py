"""Judge a pair: decide whether two texts mean the same, by the words and figures that they share.

A request for that is known by its schema, an object with a boolean `same` and a string `why`, and by two texts in the
first user message: in two tags of different names, or under two keys of a JSON object.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from emulator.answers import answer
from emulator.identifiers import fingerprint
from emulator.inventions import within_limit
from emulator.mistakes import WRONG_PER_HUNDRED
from emulator.reading import Reading
from emulator.words import plain, words

TAGGED = re.compile(r"<(\w+)>\s*(.*?)\s*</\1>", re.DOTALL)
FIGURES = re.compile(r"\d+")
DENIALS = {"no", "not", "never", "none", "without", "cannot"}
ALIKE = 0.5  # of both texts' telling words: from so many in common on, they mean the same
OBJECTS = 4  # it takes one same pair for different where it takes so many different ones for the same


def wants_comparison(schema: Mapping[str, Any]) -> bool:
    properties = schema.get("properties") or {}
    return all(
        (properties.get(name) or {}).get("type") == kind for name, kind in (("same", "boolean"), ("why", "string"))
    )


def comparison(reading: Reading, schema: dict[str, Any], tier: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of a judge of pairs: the same for the same two texts, in whatever order. What is `known` of it
    is said."""
    pair = _pair(reading.row_text)
    is_same = pair is not None and _mean_the_same(*pair)
    draw = fingerprint("\n".join(sorted(pair or ())), "takes for the other") % 100
    if draw < WRONG_PER_HUNDRED[tier] // (OBJECTS if is_same else 1):
        is_same = not is_same
    why = "Both say the same." if is_same else "They say different things."
    if pair is None:
        why = "There are no two texts to compare."
    said = {"same": is_same, "why": within_limit(why, schema["properties"]["why"])}
    told = {name: value for name, value in known.items() if name in schema["properties"]}
    return answer(reading, schema, ()).value | said | told


def _pair(message: str) -> tuple[str, str] | None:
    tagged = dict(TAGGED.findall(message))
    if len(tagged) == 2:
        first, second = tagged.values()
        return first, second
    try:
        value = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    texts = [each for each in value.values() if isinstance(each, str)] if isinstance(value, dict) else []
    return (texts[0], texts[1]) if len(texts) == 2 else None


def _mean_the_same(first: str, second: str) -> bool:
    figures = [set(FIGURES.findall(each)) for each in (first, second)]
    denials = [DENIALS & set(plain(each).split()) for each in (first, second)]
    if figures[0] != figures[1] or bool(denials[0]) != bool(denials[1]):
        return False
    mine, theirs = ({each for each in words(text) if not each.isdecimal()} for text in (first, second))
    return bool(mine or theirs) and len(mine & theirs) >= ALIKE * (len(mine) + len(theirs)) / 2

r"""Limits that a description tells: what the SDK writes there, because the API's schemas have no words for it.

`How sure.\n\n{maximum: 1, minimum: 0}` is a number from 0 to 1. So are a text's length and pattern, and a list's.
"""

import re
from ast import literal_eval
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

NUMBERS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems",
    "maxItems",
)  # fmt: skip
TOLD = re.compile(r"\s*\{((?:\w+: .*))\}\s*\Z", re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
NEXT = re.compile(r"(?:\A|, )(\w+): ")


def with_told_limits(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with the limits that its description tells as keywords, and without them in the description."""
    description = schema.get("description")
    if not isinstance(description, str) or not (found := TOLD.search(description)):
        return schema
    told = _told(found[1])
    return {**told, **schema, "description": description[: found.start()]} if told else schema


def _told(text: str) -> dict[str, Any]:
    told: dict[str, Any] = {}
    starts = list(NEXT.finditer(text))
    ends = [*(each.start() for each in starts[1:]), len(text)]
    for start, end in zip(starts, ends, strict=True):
        name, value = start[1], text[start.end() : end]
        if name == "pattern":  # it stands last, and may hold anything
            return {**told, name: text[start.end() :]}
        if name == "examples":
            with suppress(ValueError, SyntaxError):
                told[name] = literal_eval(value)
        elif name in NUMBERS and NUMBER.fullmatch(value):
            told[name] = float(value) if "." in value or "e" in value else int(value)
    return told

"""Make a short text that matches a regular expression, for a schema's `pattern`."""

import re
from functools import lru_cache
from re import _constants as op  # type: ignore[attr-defined] # the parser has no public door
from re import _parser  # type: ignore[attr-defined] # the parser has no public door
from typing import Any

CATEGORIES = {op.CATEGORY_DIGIT: "0", op.CATEGORY_SPACE: " ", op.CATEGORY_WORD: "a"}


@lru_cache(maxsize=256)
def example_of(pattern: str, least: int = 0) -> str:
    """Return a text of at least so many letters that matches the pattern, or "unknown" if it is beyond this module."""
    parsed = _parser.parse(pattern)
    # Rather one of what may be left out than none: an empty text says less.
    texts = (_spell(parsed, times) for times in range(1, least + 2))
    text = next((text for text in texts if len(text) >= least), "") or _spell(parsed, 1)
    return text if re.search(pattern, text) else "unknown"


def _spell(parsed: Any, times: int) -> str:
    return "".join(_piece(kind, value, times) for kind, value in parsed)


def _piece(kind: Any, value: Any, times: int) -> str:
    if kind is op.LITERAL:
        return chr(value)
    if kind is op.NOT_LITERAL or kind is op.ANY:
        return "a"
    if kind is op.IN:
        return _member(value)
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        least, most, inner = value
        return _spell(inner, times) * max(least, min(times, most))
    if kind is op.SUBPATTERN:
        return _spell(value[-1], times)
    if kind is op.BRANCH:
        return _spell(value[1][0], times)
    return ""


def _member(options: Any) -> str:
    kind, value = options[0]
    if kind is op.RANGE:
        return chr(value[0])
    if kind is op.LITERAL:
        return chr(value)
    return CATEGORIES.get(value, "a")

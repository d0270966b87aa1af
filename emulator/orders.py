"""Parse orders in a text that should only be read: `[emulator:obey]` and what follows."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OBEY = "[emulator:obey]"
ORDER = re.compile(re.escape(OBEY) + r"\s+(?:call\s+(\S+)\s+with|answer)\s+(?=\{)")
DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Order:
    tool: str | None
    """The tool to call; None for an order to answer."""
    content: dict[str, Any]
    span: tuple[int, int] | None
    """Where it stands; None within a JSON string, whose quotes are escaped."""


def orders_in(text: str) -> Iterator[Order]:
    for found in ORDER.finditer(text):
        try:
            content, end = DECODER.raw_decode(text, found.end())
            yield Order(found[1], content, (found.start(), end))
        except ValueError:
            yield from _escaped(found[1], text[found.end() :].replace('\\"', '"'))


def without_orders(text: str) -> str:
    """Return the text without its orders: the JSON in them says nothing about the row."""
    for order in reversed(list(orders_in(text))):
        if order.span:
            text = text[: order.span[0]] + text[order.span[1] :]
    return text


def _escaped(tool: str | None, text: str) -> Iterator[Order]:
    try:
        content, _ = DECODER.raw_decode(text)
    except ValueError:
        return
    yield Order(tool, content, None)

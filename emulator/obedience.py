"""Obey orders in rows or tool output, to test what a prompt injection can do.

`[emulator:obey] call TOOL with {json}`, `[emulator:obey] answer {json}`, and `[emulator:loop]` in a row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from emulator.orders import OBEY, Order, orders_in
from emulator.reading import Reading, as_key
from emulator.tool_choice import forced_call, next_calls

LOOP = "[emulator:loop]"


def obeyed(reading: Reading, tools: Sequence[Mapping[str, Any]], choice: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the block that an order in the text demands, if there is an order that was not carried out yet."""
    may_call = bool(tools) and choice.get("type") != "none"
    if may_call and LOOP in reading.row_text:
        return _same_again(reading, tools, choice)
    for text in (reading.row_text, *[call.output for call in reading.calls]):
        for order in orders_in(text) if OBEY in text else ():
            if order.tool is None and _can_be_said(order.content, reading.schema):
                return {"type": "text", "text": orjson.dumps(order.content).decode()}
            if order.tool and may_call and not _was_carried_out(reading, order):
                return {"type": "tool_use", "name": order.tool, "input": order.content}
    return None


def _same_again(reading: Reading, tools: Sequence[Mapping[str, Any]], choice: Mapping[str, Any]) -> dict[str, Any]:
    if reading.calls:
        first = reading.calls[0]
        return {"type": "tool_use", "name": first.tool, "input": orjson.loads(first.arguments)}
    return (next_calls(reading, tools, choice) or [forced_call(tools[0])])[0]


def _was_carried_out(reading: Reading, order: Order) -> bool:
    made = [call for call in reading.calls if order.tool in (call.tool, call.tool.partition("/")[2])]
    return any(call.arguments == as_key(order.content) for call in made)


def _can_be_said(content: dict[str, Any], schema: Mapping[str, Any] | None) -> bool:
    """Whether a grammar lets this be said: the schema's own properties, and all it requires."""
    if schema is None or "properties" not in schema:
        return True
    return set(schema.get("required") or ()) <= content.keys() <= set(schema["properties"])

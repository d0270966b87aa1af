"""Choose the tools a mind calls next: those whose inputs it can fill, each once.

So a tool that needs another tool's output is called in a later turn, and the calling ends.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from emulator.facts import Fact, Scalar
from emulator.reading import Reading, ToolCall, as_key
from emulator.schemas import branches, typed
from emulator.words import likeness, words

MOST_AT_ONCE = 4
LEAST_LIKENESS = 0.5
# A company is no company id: an input called so is filled by a fact called so, or one that looks like it.
IDENTIFYING = frozenset({"id", "identifier", "code", "number", "key", "reference", "ref", "token", "uuid"})
LIKE_AN_ID = re.compile(r"(?=\S*[0-9]|[A-Z-]+$)\S+$")


def next_calls(reading: Reading, tools: Sequence[Mapping[str, Any]], choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `tool_use` blocks of the next turn, without ids; empty when it is time to answer."""
    kind = choice.get("type", "auto")
    if kind == "none" or not tools:
        return []
    if kind == "tool":
        tools = [tool for tool in tools if tool["name"] == choice["name"]]
    wanted = [(tool["name"], arguments) for tool in tools if (arguments := _arguments(reading, tool)) is not None]
    if not wanted and kind in ("any", "tool"):
        return [forced_call(tools[0])]
    most = 1 if choice.get("disable_parallel_tool_use") else MOST_AT_ONCE
    return [{"type": "tool_use", "name": name, "input": arguments} for name, arguments in wanted[:most]]


def forced_call(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A call made without anything to fill it with."""
    return {"type": "tool_use", "name": tool["name"], "input": _made_up(tool["input_schema"])}


def _arguments(reading: Reading, tool: Mapping[str, Any]) -> dict[str, Any] | None:
    """With what to call a tool now, or None when it does not fit or has said what it can."""
    before = [call for call in reading.calls if call.tool == tool["name"]]
    if len(before) > 1 or any(not call.failed for call in before):
        return None
    return next(_fresh(before, _possible_arguments(reading, tool["input_schema"])), None)


def _fresh(before: Sequence[ToolCall], possible: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    made = {call.arguments for call in before}
    return (arguments for arguments in possible if as_key(arguments) not in made)


def _possible_arguments(reading: Reading, schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The best arguments, then the same with one input filled by its second best value."""
    properties = {name: _plainest(inner, schema) for name, inner in (schema.get("properties") or {}).items()}
    required = schema.get("required") or list(properties)[:1]
    facts = [*reading.tool_facts, *reading.row_facts]
    values = {name: list(islice(_values(name, inner, facts), 2)) for name, inner in properties.items()}
    if not all(values.get(name) for name in required):
        return
    # An optional input is filled only by a fact of its very name: a wrong filter is worse than none.
    optional = {name: _exact(name, inner, facts) for name, inner in properties.items() if name not in required}
    extra = {name: value for name, value in optional.items() if value is not None}
    best = {name: values[name][0] for name in required}
    yield best | extra
    if extra:
        yield best
    for name in required:
        if len(values[name]) > 1:
            yield best | {name: values[name][1]}


def _plainest(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    options, _ = branches(schema, root)
    return options[0] if options else {"const": None}


def _values(name: str, schema: Mapping[str, Any], facts: Sequence[Fact]) -> Iterator[Any]:
    """Values that may fill an input, best first, each once."""
    if "const" in schema:
        yield schema["const"]
        return
    description = str(schema.get("description", ""))
    likely = [(likeness(name, description, fact.name), fact) for fact in facts]
    identifying = IDENTIFYING.intersection(words(name))
    seen: list[Any] = []
    for like, fact in sorted(likely, key=lambda pair: -pair[0]):
        if like < LEAST_LIKENESS:
            return
        if identifying and not (identifying <= set(words(fact.name)) or LIKE_AN_ID.match(str(fact.value))):
            continue
        value = _fitting(schema, fact.value)
        if value is not None and value not in seen:
            seen.append(value)
            yield value


def _exact(name: str, schema: Mapping[str, Any], facts: Sequence[Fact]) -> Any:
    same = [fact for fact in facts if likeness(name, "", fact.name) == 1.0]
    return next((value for fact in same if (value := _fitting(schema, fact.value)) is not None), None)


def _fitting(schema: Mapping[str, Any], value: Scalar) -> Any:
    """The value in the type that an input wants, or None."""
    if "enum" in schema:
        return next((each for each in schema["enum"] if str(each).casefold() == str(value).casefold()), None)
    if schema.get("type") == "array":
        inner = _fitting(schema.get("items") or {}, value)
        return None if inner is None else [inner]
    fitting = typed(schema, value)
    pattern = schema.get("pattern")
    return None if pattern and not re.search(pattern, str(fitting)) else fitting


def _made_up(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a call that was forced without anything to fill it with."""
    blank = {"string": "unknown", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    properties: Mapping[str, Any] = schema.get("properties") or {}
    wanted = schema.get("required") or []
    return {name: _blank(properties.get(name) or {}, blank) for name in wanted}


def _blank(schema: Mapping[str, Any], blank: Mapping[str, Any]) -> Any:
    return schema["enum"][0] if schema.get("enum") else blank.get(str(schema.get("type")), "unknown")

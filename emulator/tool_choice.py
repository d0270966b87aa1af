"""Choose the tools that a mind calls next: those whose inputs it can fill, each once.

So a tool that needs another tool's output is called in a later turn, and the calling ends.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from emulator.facts import Fact, Scalar, empty_names_in
from emulator.reading import Reading, ToolCall, as_key
from emulator.schemas import branches, typed
from emulator.words import likeness, words

MOST_AT_ONCE = 4
LEAST_LIKENESS = 0.5
# What is written in a language, such as SQL, cannot be copied from a row: only whoever knows the job can write it.
LANGUAGES = frozenset({"sql", "cypher", "graphql", "sparql", "regex", "regexp", "xpath", "jsonpath", "jq"})
STATEMENT = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|MATCH)\b")
# What is somewhere is filled only by a fact that is called so: a company is no table.
PLACES = frozenset({
    "table", "column", "schema", "database", "db", "path", "file", "filename", "directory", "folder", "url", "uri",
    "sheet", "bucket", "index", "repo", "repository", "branch", "dataset", "collection",
})  # fmt: skip
# What is looked for is what the row is about.
SEARCHES = frozenset({"query", "q", "search", "term", "keyword", "question", "text"})
SUBJECTS = frozenset({"name", "title", "subject", "company", "product", "organisation", "organization", "brand"})
CANNOT_FILL = "cannot fill {tool}.{name}: this says nothing of your job"
# A company is no company id: an input called so is filled by a fact called so, or one that looks like it.
IDENTIFYING = frozenset({"id", "identifier", "code", "number", "key", "reference", "ref", "token", "uuid"})
LIKE_AN_ID = re.compile(r"(?=\S*[0-9]|[A-Z-]+$)\S+$")


def next_calls(reading: Reading, tools: Sequence[Mapping[str, Any]], choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the `tool_use` blocks of the next turn, without ids; empty when it is time to answer."""
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
    """Return a call made without anything to fill it with."""
    return {"type": "tool_use", "name": tool["name"], "input": _made_up(tool["input_schema"])}


def _arguments(reading: Reading, tool: Mapping[str, Any]) -> dict[str, Any] | None:
    """With what to call a tool now, or None when it does not fit or has said what it can."""
    before = [call for call in reading.calls if call.tool == tool["name"]]
    if len(before) > 1 or any(not call.failed for call in before):
        return None
    return next(_fresh(before, _possible_arguments(reading, tool)), None)


def unfillable_inputs(reading: Reading, tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences about the inputs that kept tools from being called, except inputs whose column is empty in the
    row.
    """
    facts, called = [*reading.tool_facts, *reading.row_facts], {call.tool for call in reading.calls}
    return [
        CANNOT_FILL.format(tool=str(tool["name"]).rpartition("__")[2], name=name)
        for tool in tools
        if "input_schema" in tool and tool["name"] not in called
        for name, inner in _required(tool["input_schema"]).items()
        if next(_values(name, inner, facts, tool), None) is None and not _is_empty_column(name, inner, reading)
    ]


def _required(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    properties = {name: _plainest(inner, schema) for name, inner in (schema.get("properties") or {}).items()}
    return {name: properties[name] for name in schema.get("required") or list(properties)[:1] if name in properties}


def _is_empty_column(name: str, schema: Mapping[str, Any], reading: Reading) -> bool:
    description = str(schema.get("description", ""))
    return any(likeness(name, description, other) >= LEAST_LIKENESS for other in empty_names_in(reading.row_text))


def _fresh(before: Sequence[ToolCall], possible: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    made = {call.arguments for call in before}
    return (arguments for arguments in possible if as_key(arguments) not in made)


def _possible_arguments(reading: Reading, tool: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The best arguments, then the same with one input filled by its second best value."""
    schema = tool["input_schema"]
    properties = {name: _plainest(inner, schema) for name, inner in (schema.get("properties") or {}).items()}
    required = schema.get("required") or list(properties)[:1]
    facts = [*reading.tool_facts, *reading.row_facts]
    values = {name: list(islice(_values(name, inner, facts, tool), 2)) for name, inner in properties.items()}
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


def _values(name: str, schema: Mapping[str, Any], facts: Sequence[Fact], tool: Mapping[str, Any]) -> Iterator[Any]:
    """Values that may fill an input, best first, each once."""
    if "const" in schema:
        yield schema["const"]
        return
    description = str(schema.get("description", ""))
    is_written = _is_written(name, description, str(tool.get("description", "")))
    told = "" if is_written else description
    likely = [(likeness(name, told, fact.name), fact) for fact in facts]
    if not is_written and SEARCHES.issuperset(words(name)):
        likely += [(LEAST_LIKENESS, fact) for fact in _subjects(facts)]
    identifying, place = IDENTIFYING.intersection(words(name)), PLACES.intersection(words(name))
    seen: list[Any] = []
    for like, fact in sorted(likely, key=lambda pair: -pair[0]):
        if like < LEAST_LIKENESS:
            return
        if identifying and not (identifying <= set(words(fact.name)) or LIKE_AN_ID.match(str(fact.value))):
            continue
        if place and place.isdisjoint(words(fact.name)):
            continue
        value = _fitting(schema, fact.value)
        if value is not None and value not in seen:
            seen.append(value)
            yield value


def _is_written(name: str, description: str, tool: str) -> bool:
    """Whether an input is text in a language. What is said of the tool counts for one that is called a query."""
    told = f"{description} {tool}" if "query" in words(name) else description
    is_named = not LANGUAGES.isdisjoint((*words(name), *words(told)))
    return is_named or ("query" in words(name) and STATEMENT.search(told) is not None)


def _subjects(facts: Sequence[Fact]) -> list[Fact]:
    """The facts of a row, the names of things first."""
    texts = [fact for fact in facts if fact.tool is None and isinstance(fact.value, str)]
    return sorted(texts, key=lambda fact: SUBJECTS.isdisjoint(words(fact.name)))


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

"""Check tools against what the API accepts, before anything is sent.

One tool that it refuses makes it refuse every request, so every row. Its documents do not state these rules; they are
known from its refusals: the keys of `properties` (anthropics/claude-code#79418, ComposioHQ/composio#3500), the root of
a schema (anthropics/claude-code#40075), its draft (anthropics/claude-code#7365).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema_rs

from rowtide.errors import UserMistake
from rowtide.tools.tool_rules import Tool

LEGAL_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}\Z")
AT_THE_ROOT = ("oneOf", "allOf", "anyOf")
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def check_tools(tools: Iterable[Tool]) -> None:
    """Raise UserMistake for the first tool that the API would refuse, naming it and what to do."""
    for tool in tools:
        if why := refusal_of(tool.input_schema):
            raise UserMistake(
                f"the API would refuse {tool.name}, and with it every row: {why}. "
                "Leave it out: name the tools that this job needs under its server's `tools`",
                file="job.yaml",
                key="tools",
            )


def refusal_of(schema: Mapping[str, Any]) -> str | None:
    """Why the API would refuse a tool with this input schema, or None."""
    if (kind := schema.get("type")) != "object":
        return f"what it takes is {kind!r}; the API takes only tools whose arguments are an object"
    if words := [word for word in AT_THE_ROOT if word in schema]:
        return f"its input schema has {words[0]!r} at the root; the API takes that only inside a property"
    properties = schema.get("properties")
    for name in properties if isinstance(properties, dict) else ():
        if not LEGAL_PROPERTY.match(name):
            return f"its argument {name!r} has a name that the API refuses: it takes 1 to 64 of A-Z a-z 0-9 _ . -"
    try:
        jsonschema_rs.meta.validate({**schema, "$schema": DRAFT})
    except jsonschema_rs.ValidationError as error:
        place = ".".join(map(str, error.instance_path))
        return f"its input schema is no JSON schema (draft 2020-12): {place or 'it'}: {error.message[:200]}"
    return None

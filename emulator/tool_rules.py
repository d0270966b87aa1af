"""Validate `tools` and `tool_choice` as the API does."""

import re
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from emulator.models import Model
from emulator.problems import Problem, invalid
from emulator.schema_rules import check_strict_tool
from emulator.toolset_rules import is_toolset, toolset_problem

LEGAL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")
ALLOWED = {
    "allowed_callers", "cache_control", "defer_loading", "description", "eager_input_streaming", "input_examples",
    "input_schema", "name", "strict", "type",
}  # fmt: skip
LEGAL_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}\Z")
AT_THE_ROOT = ("oneOf", "allOf", "anyOf")
DRAFT = "https://json-schema.org/draft/2020-12"
CHOICES = ("auto", "any", "tool", "none")


def check_tools(params: dict[str, Any], model: Model, *, connects: bool) -> None:
    """Check the tools; `connects`: toolsets of MCP servers may be among them."""
    tools = params.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    if tools:
        problem = _tools_problem(orjson.dumps(tools), connects)
        if problem:
            raise invalid(problem)
    if params.get("tool_choice") is not None:
        _check_choice(params, tools or [], model)


@lru_cache(maxsize=256)
def _tools_problem(tools: bytes, connects: bool) -> str | None:
    # A job sends the same tools with every row: read them once.
    names: set[str] = set()
    for at, tool in enumerate(orjson.loads(tools)):
        problem = toolset_problem(tool) if connects and is_toolset(tool) else _tool_problem(tool)
        if problem:
            return f"tools.{at}{problem}"
        if is_toolset(tool):
            continue
        if tool["name"] in names:
            return "tools: Tool names must be unique."
        names.add(tool["name"])
    return None


def _tool_problem(tool: object) -> str | None:
    if not isinstance(tool, dict):
        return ": Input should be an object"
    if is_toolset(tool):
        return ": Input tag 'mcp_toolset' found using 'type' does not match any of the expected tags"
    if tool.get("type", "custom") != "custom":
        return f".type: '{tool['type']}' tools run on the server and are not emulated"
    problem = _custom_problem(tool)
    return problem and f".custom{problem}"


def _custom_problem(tool: dict[str, Any]) -> str | None:
    for field in ("name", "input_schema"):
        if field not in tool:
            return f".{field}: Field required"
    for field in tool:
        if field not in ALLOWED:
            return f".{field}: Extra inputs are not permitted"
    if not isinstance(tool["name"], str) or not LEGAL_NAME.match(tool["name"]):
        return ".name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
    if problem := _input_schema_problem(tool["input_schema"]):
        return f".input_schema{problem}"
    if tool.get("strict"):
        try:
            check_strict_tool(tool["input_schema"])
        except Problem as problem:
            return f".input_schema: {problem.message}"
    return None


def _input_schema_problem(schema: object) -> str | None:
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return ".type: Input should be 'object'"
    if any(word in schema for word in AT_THE_ROOT):
        return ": input_schema does not support oneOf, allOf, or anyOf at the top level"
    properties = schema.get("properties")
    if isinstance(properties, dict) and not all(LEGAL_PROPERTY.match(name) for name in properties):
        return ".properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'"
    if not jsonschema_rs.meta.is_valid({**schema, "$schema": f"{DRAFT}/schema"}):
        return (
            f": JSON schema is invalid. It must match JSON Schema draft 2020-12 ({DRAFT}). "
            "Learn more about tool use at https://docs.claude.com/en/docs/tool-use."
        )
    return None


def _check_choice(params: dict[str, Any], tools: list[dict[str, Any]], model: Model) -> None:
    choice = params["tool_choice"]
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in CHOICES:
        raise invalid("tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'")
    if kind in ("any", "tool"):
        _check_forced(params, model)
    if not tools and kind != "none":
        raise invalid("tool_choice may only be specified while providing tools.")
    if kind == "tool" and choice.get("name") not in {tool.get("name") for tool in tools}:
        raise invalid(f"Tool '{choice.get('name')}' not found in provided tools")


def _check_forced(params: dict[str, Any], model: Model) -> None:
    if model.forced_tool == "no":
        raise invalid('tool_choice: type "tool" and "any" are not supported for this model.')
    if model.forced_tool == "without_thinking" and model.thinks(params.get("thinking")):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")

"""Check whether the API could compile a JSON schema into a grammar; if it could not, it answers 400."""

from functools import lru_cache
from typing import Any

import orjson

from emulator.problems import Problem, invalid

TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
UNSUPPORTED = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems", "contains", "minContains", "maxContains", "prefixItems"),
    "object": ("minProperties", "maxProperties", "patternProperties", "propertyNames"),
}
MOST_OPTIONAL, MOST_UNIONS = 24, 16


def check_output_schema(schema: dict[str, Any]) -> None:
    problem = _problem(orjson.dumps(schema))
    if problem:
        raise invalid(f"output_config.format.schema: {problem}")


def check_strict_tool(schema: dict[str, Any]) -> None:
    problem = _problem(orjson.dumps(schema))
    if problem:
        raise invalid(problem)


@lru_cache(maxsize=256)
def _problem(schema: bytes) -> str | None:
    # A job sends the same schema with every row: judge it once.
    parsed = orjson.loads(schema)
    try:
        _Check(parsed).run()
    except Problem as problem:
        return problem.message
    return None


class _Check:
    def __init__(self, root: dict[str, Any]) -> None:
        self.root, self.optional, self.unions = root, 0, 0

    def run(self) -> None:
        self.visit(self.root, ())
        if self.optional > MOST_OPTIONAL:
            raise invalid(
                f"Schemas contains too many optional parameters ({self.optional}), which would make grammar "
                "compilation inefficient. Reduce the number of optional parameters in your tool schemas "
                f"(limit: {MOST_OPTIONAL})."
            )
        if self.unions > MOST_UNIONS:
            raise invalid(
                f"Schemas contains too many parameters with union types ({self.unions} parameters with type arrays or "
                "anyOf). This causes exponential compilation cost. Reduce the number of nullable or union-typed "
                f"parameters (limit: {MOST_UNIONS} parameters with unions)."
            )

    def visit(self, schema: object, within: tuple[str, ...]) -> None:
        if not isinstance(schema, dict):
            raise invalid("Schema must be an object")
        if "$ref" in schema:
            self.follow(schema["$ref"], within)
            return
        for one in (schema.get("anyOf") or []) + (schema.get("allOf") or []):
            self.visit(one, within)
        self.unions += "anyOf" in schema or isinstance(schema.get("type"), list)
        if "oneOf" in schema or "not" in schema:
            raise invalid("Schema type 'oneOf' is not supported" if "oneOf" in schema else "'not' is not supported")
        types = schema.get("type")
        for kind in types if isinstance(types, list) else [types]:
            self.visit_type(kind, schema, within)

    def visit_type(self, kind: object, schema: dict[str, Any], within: tuple[str, ...]) -> None:
        if kind is None:
            return
        if kind not in TYPES:
            raise invalid(f"Schema type '{kind}' is not supported")
        family = "number" if kind == "integer" else str(kind)
        unsupported = sorted(word for word in UNSUPPORTED.get(family, ()) if word in schema)
        if unsupported:
            raise invalid(f"For '{kind}' type, properties {', '.join(unsupported)} are not supported")
        if kind == "object":
            self.visit_object(schema, within)
        elif kind == "array":
            if schema.get("minItems", 0) not in (0, 1):
                raise invalid("For 'array' type, 'minItems' values other than 0 or 1 are not supported")
            self.visit(schema.get("items", {}), within)
        elif kind == "string" and schema.get("format") not in (None, *FORMATS):
            raise invalid(f"For 'string' type, format '{schema['format']}' is not supported")

    def visit_object(self, schema: dict[str, Any], within: tuple[str, ...]) -> None:
        if schema.get("additionalProperties") is not False:
            raise invalid("For 'object' type, 'additionalProperties' must be explicitly set to false")
        properties = schema.get("properties") or {}
        self.optional += len(properties.keys() - set(schema.get("required") or ()))
        for inner in properties.values():
            self.visit(inner, within)

    def follow(self, reference: object, within: tuple[str, ...]) -> None:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise invalid(f"External $ref '{reference}' is not supported")
        if reference in within:
            raise invalid(f"Circular reference detected in schema definitions: {reference}")
        found: Any = self.root
        for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            found = found.get(step) if isinstance(found, dict) else None
        if found is None or found is self.root:
            raise invalid(f"Circular or unknown $ref '{reference}' is not supported")
        self.visit(found, (*within, reference))

"""Read JSON schemas: resolve references, choose branches, convert a fact to the wanted type."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jsonschema_rs
import orjson

from emulator.facts import Scalar
from emulator.told_limits import with_told_limits

Schema = Mapping[str, Any]

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
# Examples of the formats, for when nothing is known; and what a value must look like to be taken for one.
FORMATS: Mapping[str, tuple[str, str]] = {
    "date": ("2026-01-01", r"\d{4}-\d\d-\d\d"),
    "date-time": ("2026-01-01T00:00:00Z", r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)"),
    "time": ("00:00:00Z", r"\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)"),
    "duration": ("P1D", r"P(?=.)(?:\d+[YMWD])*(?:T(?:\d+[HMS])+)?"),
    "email": ("nobody@example.com", r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    "hostname": ("example.com", r"(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,}"),
    "uri": ("https://example.com/", r"[a-z][a-z0-9+.-]*://[^\s]+"),
    "ipv4": ("192.0.2.1", r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}"),
    "ipv6": ("2001:db8::1", r"[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}"),
    "uuid": ("00000000-0000-4000-8000-000000000000", r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
}


class Form:
    """A schema to be filled in. The rows of a job share one, and with it what was worked out about it."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        # The schema is kept beside its branches, or another could get its id.
        self._branches: dict[int, tuple[Schema, list[Schema], bool]] = {}
        self._validators: dict[int, tuple[Schema, jsonschema_rs.Validator]] = {}

    def branches(self, schema: Schema) -> tuple[list[Schema], bool]:
        """The kinds of value a part of the schema allows, without null; and whether null is allowed too."""
        known = self._branches.get(id(schema))
        if known is None:
            known = self._branches[id(schema)] = (schema, *branches(schema, self.root))
        return known[1], known[2]

    def allows(self, schema: Schema, value: Any) -> bool:
        """Whether a part of the schema lets this value be said."""
        known = self._validators.get(id(schema))
        if known is None:
            whole = {**schema, **{key: self.root[key] for key in ("$defs", "definitions") if key in self.root}}
            known = self._validators[id(schema)] = (schema, jsonschema_rs.validator_for(whole, offline=True))
        return known[1].is_valid(value)


@lru_cache(maxsize=64)
def form_of(schema: bytes) -> Form:
    return Form(orjson.loads(schema))


def resolved(schema: Schema, root: Schema) -> Schema:
    """Return a schema with its own reference followed and its `allOf` parts merged in."""
    while "$ref" in schema:
        found: Any = root
        for step in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            found = found[step]
        schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    for part in schema.get("allOf") or ():
        inner = resolved(part, root)
        merged = {**(schema.get("properties") or {}), **(inner.get("properties") or {})}
        required = [*(schema.get("required") or ()), *(inner.get("required") or ())]
        schema = {**inner, **schema}
        if merged:
            schema = {**schema, "properties": merged, "required": required}
    return schema


def branches(schema: Schema, root: Schema) -> tuple[list[Schema], bool]:
    """Return the kinds of value that a schema allows, without null, and whether null is allowed too."""
    schema = resolved(schema, root)
    alone = {key: value for key, value in schema.items() if key not in ("anyOf", "oneOf")}
    each_of = schema.get("anyOf") or schema.get("oneOf") or [{}]
    options = [with_told_limits(resolved({**alone, **each}, root)) for each in each_of]
    kinds = [{**option, "type": kind} for option in options for kind in _types(option)]
    values: list[Schema] = [kind for kind in kinds if kind["type"] != "null" and kind.get("const", 0) is not None]
    nullable = len(values) < len(kinds) or any(None in (option.get("enum") or ()) for option in options)
    return values, nullable


def _types(schema: Schema) -> Sequence[str]:
    kind = schema.get("type")
    if isinstance(kind, list):
        return kind
    if kind:
        return [kind]
    if "properties" in schema:
        return ["object"]
    return ["array"] if "items" in schema else ["string"]


def typed(schema: Schema, value: Scalar) -> Any:
    """Return a fact's value in the type and format that a schema demands, or None if that is impossible."""
    match schema.get("type", "string"):
        case "string":
            text = ("true" if value else "false") if isinstance(value, bool) else str(value)
            return text if _is_in_format(schema.get("format"), text) else None
        case "boolean":
            return value if isinstance(value, bool) else _truth(str(value))
        case "integer" | "number" as kind:
            return _number(kind, value)
        case [first, *_]:
            return typed({**schema, "type": first}, value)
        case _:
            return None


def _is_in_format(name: str | None, text: str) -> bool:
    return name is None or name not in FORMATS or re.fullmatch(FORMATS[name][1], text) is not None


def _truth(text: str) -> bool | None:
    return {"true": True, "yes": True, "y": True, "false": False, "no": False, "n": False}.get(text.strip().casefold())


def _number(kind: str, value: Scalar) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        found = NUMBER.search(value)
        if not found:
            return None
        value = float(found.group().replace(",", ""))
    if kind == "integer":
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value

"""The fields of an answer model: name, kind of value, and whether every sink can hold the value unaltered.

A field has one name from the reply on: in the ledger, in gates, in the quarantine sheet, in reports and in sinks. It is
the name in Python, or the field's alias where the model says `serialize_by_alias`.

A kind is a word: text, integer, number, boolean, date, datetime, datetime without zone, decimal, decimal(10,2), json,
or "list of" one of these. It is read off pydantic's core schema, which knows what annotations, constraints and
validators come to. What `REFUSED` names cannot be carried; `plan` says so, with the field and what to write instead.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, TypeAdapter

from rowtide.errors import UserMistake

LIST_OF = "list of "
WIDEST_DECIMAL = 38  # digits; what Parquet and DuckDB hold
NONE = "none"  # the kind of a field that is always null

Schema = Mapping[str, Any]  # a core schema of pydantic's

KINDS = {
    **dict.fromkeys(("str", "bytes", "time", "timedelta", "uuid", "url", "multi-host-url"), "text"),
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "date": "date",
    "none": NONE,
}
# A bool is an int, so it comes first.
OF_VALUES = {bool: "boolean", int: "integer", float: "number", str: "text", bytes: "text", type(None): NONE}
LISTS = ("list", "set", "frozenset", "tuple")
TEXTS = {"text", "date", "datetime", "datetime without zone", "decimal"}  # kinds whose JSON is a string
INSIDE = ("strict_schema", "json_schema", "return_schema", "schema")  # where a schema keeps the one it is about

REFUSED = {
    "any": "says nothing of what may stand there; give it a type, such as `str` or `list[str]`",
    "dict": "a dict with keys of its own is not expressible; use a list of objects with a name and a value",
    "set": "is a set, which has no order: it would be written differently each time; use a list",
    "frozenset": "is a set, which has no order: it would be written differently each time; use a list",
    "json": "is JSON within text; give it the type of what the JSON holds",
    "complex": "is complex, which JSON does not know; use an object with two numbers",
    "generator": "is read only once; use a list",
    "function-plain": "does not say what it looks like in JSON; use a plain type, and a validator after it",
    **dict.fromkeys(("callable", "is-instance", "is-subclass", "call", "arguments"), "is no data; use a plain type"),
}
OWN_SERIALIZER = (
    "is written by a function of its own, so what is read back need not be what was answered; "
    "leave the field as it is, and add a computed_field"
)
REFUSED_CONFIG = {
    "ser_json_temporal": "writes times as numbers, which lose digits; leave it out",
    "ser_json_timedelta": "writes durations as numbers, which lose digits; leave it out",
    "ser_json_bytes": "is not how bytes are read; leave it out, or let the field be a str",
    "val_json_bytes": "is not how bytes are written; leave it out, or let the field be a str",
}
PYDANTICS_OWN = ("pydantic.networks", "pydantic._internal")  # URLs, IP addresses, paths: read back as they are written


@dataclass(frozen=True, slots=True)
class AnswerField:
    """One field of an answer."""

    name: str
    attribute: str
    """Its name in Python."""
    kind: str
    is_nullable: bool
    is_computed: bool = False


@lru_cache
def answer_fields(answer: type[BaseModel]) -> tuple[AnswerField, ...]:
    """Return the fields of an answer, in their order: those of the model, then its computed ones."""
    read = _Reading.of(answer.__pydantic_core_schema__)
    by_alias = uses_aliases(answer)
    found: list[AnswerField] = []
    for name, each in read.model.get("fields", {}).items():
        if not each.get("serialization_exclude"):
            alias = each.get("serialization_alias") if by_alias else None
            found.append(AnswerField(alias or name, name, *read.kind_and_null(each["schema"])))
    for each in read.model.get("computed_fields", ()):
        alias, name = each.get("alias") if by_alias else None, each["property_name"]
        found.append(AnswerField(alias or name, name, *read.kind_and_null(each["return_schema"]), is_computed=True))
    return tuple(found)


def gate_column_names(answer: type[BaseModel]) -> list[str]:
    """Return the names of the columns that a gate over answers may use."""
    return [field.name for field in answer_fields(answer)]


def fields_to_fill_in(answer: type[BaseModel]) -> dict[str, str]:
    """Return the fields that a model or a person fills in: name → its name in Python."""
    return {field.name: field.attribute for field in answer_fields(answer) if not field.is_computed}


def uses_aliases(answer: type[BaseModel]) -> bool:
    """Return whether answers are written under their fields' aliases."""
    return bool(answer.model_config.get("serialize_by_alias"))


def check_answer_model(answer: type[BaseModel]) -> None:
    """Raise UserMistake for a model whose answers cannot all be carried unaltered, naming the field and a way out."""
    for place, what in _Reading.of(answer.__pydantic_core_schema__).faults(answer):
        raise UserMistake(what, file="answer.py", key=place)
    seen: dict[str, str] = {}
    for name in gate_column_names(answer):
        if not name.strip():
            raise UserMistake("a field needs a name that is not blank", file="answer.py", key=repr(name))
        if (other := seen.setdefault(name.casefold(), name)) is not name:
            words = f"differs from {other!r} in case only, and many readers cannot tell them apart; rename one"
            raise UserMistake(words, file="answer.py", key=name)


def field_kind(annotation: Any) -> str:
    """Return the kind of a type."""
    schema: Any = TypeAdapter(annotation).core_schema
    return _Reading.of(schema).kind_and_null(schema)[0]


@dataclass(frozen=True)
class _Reading:
    """A core schema with its references resolved."""

    root: Schema
    definitions: Mapping[str, Schema]

    @classmethod
    def of(cls, schema: Any) -> "_Reading":
        listed = schema.get("definitions", ()) if schema["type"] == "definitions" else ()
        return cls(schema, {each["ref"]: each for each in listed})

    @property
    def model(self) -> Schema:
        """The root's `model-fields`; an empty one for a root that has none."""
        found = self.innermost(self.root)
        found = self.innermost(found["schema"]) if found["type"] == "model" else found
        return found if found["type"] == "model-fields" else {"type": "model-fields"}

    def inner(self, schema: Schema) -> Schema | None:
        """Return the schema inside a validator, a default, a reference or an optional; None for any other schema."""
        kind = schema["type"]
        if kind == "definition-ref":
            return self.definitions[schema["schema_ref"]]
        if own := _serialization(schema):
            return own.get("return_schema")
        if kind == "chain":
            return schema["steps"][-1]
        if kind in ("model", "dataclass"):
            return None
        return next((schema[key] for key in INSIDE if isinstance(schema.get(key), Mapping)), None)

    def innermost(self, schema: Schema) -> Schema:
        while inner := self.inner(schema):
            schema = inner
        return {"type": "json-value"} if _serialization(schema) else schema

    def kind_and_null(self, schema: Schema) -> tuple[str, bool]:
        """Return the kind of value for a schema, and whether it may be None."""
        kind = self._kind(schema)
        return ("text" if kind == NONE else kind), self._is_nullable(schema)

    def _kind(self, schema: Schema) -> str:
        found = self.innermost(schema)
        match found["type"]:
            case "datetime":
                return "datetime without zone" if found.get("tz_constraint") == "naive" else "datetime"
            case "decimal":
                return _decimal(found.get("max_digits"), found.get("decimal_places"))
            case "literal" | "enum":
                return _one({_of_value(value) for value in found.get("expected") or found["members"]})
            case "union" | "tagged-union":
                return _one({self._kind(each) for each in _choices(found)})
            case "list" | "set" | "frozenset" | "tuple":
                element = _one({self._kind(each) for each in _items(found)})
                return "json" if element in ("json", NONE) or element.startswith(LIST_OF) else LIST_OF + element
            case "model" if found["root_model"]:
                return self._kind(found["schema"])
            case "function-plain" if found.get("serialization", {}).get("type") == "to-string":
                return "text"
            case kind:
                return KINDS.get(kind, "json")

    def _is_nullable(self, schema: Schema) -> bool:
        match schema["type"]:
            case "nullable" | "none" | "any":
                return True
            case "literal" | "enum":
                return NONE in map(_of_value, schema.get("expected") or schema["members"])
            case "union":
                return any(map(self._is_nullable, _choices(schema)))
            case _:
                inner = self.inner(schema)
                return inner is not None and self._is_nullable(inner)

    def faults(self, answer: type[BaseModel]) -> Iterator[tuple[str, str]]:
        """Yield the parts that cannot be stored unaltered: (place, as in `Answer.people.name`; why, and what to write
        instead).
        """
        if self.innermost(self.root).get("root_model"):
            yield answer.__name__, "is a RootModel; an answer is an object: put the value into a field of a BaseModel"
            return
        for option, words in REFUSED_CONFIG.items():
            if answer.model_config.get(option, "iso8601") not in ("iso8601", "utf8"):
                yield f"{answer.__name__}.model_config", f"{option} {words}"
        yield from self._faults(self.root, answer.__name__, uses_aliases(answer), frozenset())

    def _faults(self, schema: Schema, place: str, by_alias: bool, inside: frozenset[str]) -> Iterator[tuple[str, str]]:
        kind, ref = schema["type"], schema.get("schema_ref", "")
        if ref and ref in inside:  # a model that holds itself is refused elsewhere: the API does not take it
            return
        if _serialization(schema):
            yield place, OWN_SERIALIZER
        elif kind in REFUSED and schema.get("serialization", {}).get("type") != "to-string":
            yield place, REFUSED[kind]
        elif kind in ("model-fields", "dataclass-args", "typed-dict"):
            yield from self._faults_of_fields(schema, place, by_alias, inside)
        elif kind in ("model", "dataclass"):
            if schema.get("config", {}).get("extra_fields_behavior") == "allow":
                yield place, "allows fields that it does not name, and the API cannot be asked for those; name them"
            yield from self._faults(schema["schema"], place, by_alias, inside)
        elif parts := _choices(schema) or _items(schema):
            for each in parts:
                yield from self._faults(each, place, by_alias, inside)
        elif inner := self.inner(schema):
            yield from self._faults(inner, place, by_alias, inside | {ref})

    def _faults_of_fields(
        self, schema: Schema, place: str, by_alias: bool, inside: frozenset[str]
    ) -> Iterator[tuple[str, str]]:
        fields = schema["fields"]
        named = fields.items() if isinstance(fields, Mapping) else [(each["name"], each) for each in fields]
        for name, field in named:
            if not field.get("serialization_exclude"):
                if what := _fault_of_alias(name, field, by_alias=by_alias):
                    yield f"{place}.{name}", what
                yield from self._faults(field["schema"], f"{place}.{name}", by_alias, inside)
        for each in schema.get("computed_fields", ()):
            where = f"{place}.{each['property_name']}"
            if self.innermost(each["return_schema"])["type"] == "any":
                yield where, "is computed, and does not say what it returns; give it a return type"


def _serialization(schema: Schema) -> Mapping[str, Any] | None:
    """The schema's serializer, if a function of the job serializes it; else None."""
    own = schema.get("serialization", {})
    if own.get("type") not in ("function-plain", "function-wrap"):
        return None
    return None if str(getattr(own["function"], "__module__", "")).startswith(PYDANTICS_OWN) else own


def _fault_of_alias(name: str, field: Schema, *, by_alias: bool) -> str | None:
    read = field.get("validation_alias", name)
    choices = [[read]] if isinstance(read, str) else [read] if isinstance(read[0], str) else read
    if len(choices[0]) > 1:
        return "is read from within another value (AliasPath), which the API cannot be asked for; nest a model instead"
    written = field.get("serialization_alias", name)
    if by_alias and [written] not in [*choices, [name]]:
        return f"is written as {written!r} and read as {choices[0][0]!r}; let both be one, as `alias` does"
    return "is left out at times (`exclude_if`); let it be None" if "serialization_exclude_if" in field else None


def _choices(schema: Schema) -> list[Schema]:
    found = schema.get("choices", ())
    choices = list(found.values()) if isinstance(found, Mapping) else list(found)
    return [each[0] if isinstance(each, tuple) else each for each in choices]  # (schema, label)


def _items(schema: Schema) -> list[Schema]:
    if schema["type"] not in LISTS:
        return []
    items = schema.get("items_schema", {"type": "any"})
    return list(items) if isinstance(items, Sequence) else [items]


def _of_value(value: object) -> str:
    value = value.value if isinstance(value, Enum) else value
    return next((kind for plain, kind in OF_VALUES.items() if isinstance(value, plain)), "json")


def _one(kinds: set[str]) -> str:
    """One kind for a union of kinds: text where all are text in JSON, else json, so that 1 and "1" stay different."""
    kinds = kinds - {NONE} if len(kinds) > 1 else kinds
    if len(kinds) == 1:
        return next(iter(kinds))
    if kinds == {"integer", "number"}:
        return "number"
    return "text" if kinds and all(kind.partition("(")[0] in TEXTS for kind in kinds) else "json"


def _decimal(digits: int | None, places: int | None) -> str:
    """The decimal kind, with its size where a known size fits: no digit may be lost."""
    return "decimal" if digits is None or places is None or digits > WIDEST_DECIMAL else f"decimal({digits},{places})"

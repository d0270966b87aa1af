"""Check an answer's JSON schema against the limits of the API, before anything is sent.

Its limits: platform.claude.com, *Structured outputs*, "Schema complexity limits"; the words it refuses with are in
elie222/inbox-zero#2323 and vercel/ai#17268.
"""

from collections.abc import Iterator
from typing import Any, Literal

from rowtide.errors import UserMistake

MOST_OPTIONAL = 24  # fields that may be left out, in the whole answer
MOST_UNIONS = 16  # fields of several kinds, such as `str | None`
NAMED = 5  # so many of the fields are named

Trait = Literal["optional", "union"]


def check_answer_schema(schema: dict[str, Any], name: str) -> None:
    """Raise UserMistake for recursion and open-ended objects, naming the field, as in `Answer.address`."""
    _refuse(schema, schema.get("$defs", {}), name, ())


def check_schema_limits(schema: dict[str, Any], name: str) -> None:
    """Raise UserMistake when the schema, as it is sent, has more optional fields or unions than the API compiles."""
    found: dict[Trait, list[str]] = {"optional": [], "union": []}
    for trait, place in _traits(schema, schema.get("$defs", {}), name):
        found[trait].append(place)
    if len(found["optional"]) > MOST_OPTIONAL:
        raise UserMistake(
            f"{_count(found['optional'])} may be left out (they have a default); the API takes at most "
            f"{MOST_OPTIONAL} such fields: take the defaults away",
            file="answer.py",
            key=name,
        )
    if len(found["union"]) > MOST_UNIONS:
        raise UserMistake(
            f"{_count(found['union'])} may be of several kinds, such as `str | None`; the API takes at most "
            f"{MOST_UNIONS} such fields: let an empty text, a 0 or a word of a Literal stand for nothing, or put what "
            "is rarely known into one list of objects with a name and a value",
            file="answer.py",
            key=name,
        )


def _refuse(schema: Any, defs: dict[str, Any], place: str, inside: tuple[str, ...]) -> None:
    if not isinstance(schema, dict):
        return
    if ref := schema.get("$ref"):
        name = str(ref).rpartition("/")[2]
        if name in inside:
            raise UserMistake(
                "a model cannot hold itself; the API's schemas do not recurse", file="answer.py", key=place
            )
        _refuse(defs[name], defs, place, (*inside, name))
    if schema.get("additionalProperties"):
        raise UserMistake(
            "a dict with keys of its own is not expressible; use a list of objects with a name and a value",
            file="answer.py",
            key=place,
        )
    for name, each in schema.get("properties", {}).items():
        _refuse(each, defs, f"{place}.{name}", inside)
    for each in [schema.get("items"), *schema.get("anyOf", []), *schema.get("allOf", []), *schema.get("oneOf", [])]:
        _refuse(each, defs, place, inside)


def _traits(schema: Any, defs: dict[str, Any], place: str) -> Iterator[tuple[Trait, str]]:
    """The traits that count towards the limits, each with its place. A model used twice counts twice."""
    if not isinstance(schema, dict):
        return
    if ref := schema.get("$ref"):
        yield from _traits(defs[str(ref).rpartition("/")[2]], defs, place)
        return
    if "anyOf" in schema or isinstance(schema.get("type"), list):
        yield "union", place
    properties = schema.get("properties", {})
    for name, each in properties.items():
        if name not in schema.get("required", ()):
            yield "optional", f"{place}.{name}"
        yield from _traits(each, defs, f"{place}.{name}")
    for each in [schema.get("items"), *schema.get("anyOf", []), *schema.get("allOf", [])]:
        yield from _traits(each, defs, place)


def _count(places: list[str]) -> str:
    named = ", ".join(places[:NAMED])
    return f"{len(places)} fields ({named}{', …' if len(places) > NAMED else ''})"

"""What of a JSON schema the API cannot express, found before anything is sent."""

from typing import Any

from rowtide.errors import UserMistake


def check_schema(schema: dict[str, Any], name: str) -> None:
    """Raise UserMistake for recursion and open-ended objects, naming the field, as in `Answer.address`."""
    _refuse(schema, schema.get("$defs", {}), name, ())


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

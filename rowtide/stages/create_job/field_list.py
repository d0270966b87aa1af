"""The fields of an answer as a person types them: `topic: billing|delivery, urgent: yes/no, amount: number`."""

import keyword
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rowtide.errors import UserMistake, nearest_name

EVIDENCE = "evidence"
KINDS = {
    "text": "str",
    "number": "float",
    "whole": "int",
    "yes/no": "bool",
    "date": "date",
    "list": "list[str]",
}
ALSO = {
    **dict.fromkeys(("str", "string"), "text"),
    **dict.fromkeys(("float", "decimal", "amount", "money"), "number"),
    **dict.fromkeys(("int", "integer", "whole number", "count"), "whole"),
    **dict.fromkeys(("bool", "boolean", "yes|no", "no|yes", "true|false", "flag"), "yes/no"),
}
SEPARATED = re.compile(r"[,;\n](?![^()]*\))")
FIELD = re.compile(r"(?P<name>[^:()]+?)\s*(?P<optional>\?)?\s*(?::\s*(?P<kind>[^()]*?)\s*)?(?:\((?P<about>.*)\))?")
TAKEN = {"row_key", "model_config", "model_fields", "copy", "json", "dict", "schema", "construct", "validate"}
NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class AskedField:
    """A field of the answer."""

    name: str
    """As Python and the API can spell it."""
    written: str
    """As it was typed."""
    kind: str
    """A key of `KINDS`, or `choice`."""
    choices: tuple[str, ...] = ()
    about: str = ""
    is_optional: bool = False


def parse_fields(text: str) -> list[AskedField]:
    """The fields that a person typed. Raises UserMistake that says how one is written."""
    found: list[AskedField] = []
    for part in filter(None, (each.strip() for each in SEPARATED.split(text))):
        field = _parsed(part, len(found) + 1)
        if any(each.name == field.name for each in found):
            raise UserMistake(f"the field {field.name!r} stands twice", key="--fields")
        found.append(field)
    if not found:
        raise UserMistake("name at least one field, such as `topic: billing|delivery, urgent: yes/no`", key="--fields")
    return found


def with_evidence(fields: Sequence[AskedField]) -> list[AskedField]:
    """The fields, with `evidence` first unless it is among them: the words of the row that the answer rests on."""
    for each in fields:
        if each.name == EVIDENCE and each.kind != "text":
            what = f"{EVIDENCE} is the words of the row that the answer rests on, a text; give your field another name"
            raise UserMistake(what, key="--fields")
    if any(each.name == EVIDENCE for each in fields):
        return list(fields)
    about = "The words of the row that the answer rests on, copied exactly."
    return [AskedField(EVIDENCE, EVIDENCE, "text", about=about), *fields]


def spelled_fields(fields: Sequence[AskedField]) -> str:
    """The fields as they could be typed again."""
    return ", ".join(f"{each.name}: {'|'.join(each.choices) or each.kind}" for each in fields)


def python_name(written: str, place: int) -> str:
    """A name that Python and the API take, as like to the written one as can be."""
    folded = unicodedata.normalize("NFKD", written.replace("ß", "ss")).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", folded).strip("_").lower()[:NAME_CHARS].strip("_")
    if not name:
        return f"field_{place}"
    if name[0].isdigit():
        name = f"field_{name}"
    return f"{name}_" if keyword.iskeyword(name) or name in TAKEN or name.startswith("model_") else name


def _parsed(part: str, place: int) -> AskedField:
    match = FIELD.fullmatch(part)
    if match is None:
        raise UserMistake(f"{part!r} is no field: write `name: kind`, or `name: one|two|three`", key="--fields")
    written, kind = match["name"].strip(), (match["kind"] or "text").strip()
    is_optional = bool(match["optional"]) or kind.endswith("?")
    kind = kind.removesuffix("?").strip() or "text"
    name, about = python_name(written, place), (match["about"] or "").strip()
    known = ALSO.get(kind.lower(), kind.lower())
    if known in KINDS:
        return AskedField(name, written, known, (), about, is_optional)
    if "|" not in kind:
        what = f"{written}: {kind!r} is no kind; kinds: {', '.join(KINDS)}, or choices: one|two|three"
        raise UserMistake(what, key="--fields", meant=nearest_name(kind, [*KINDS, *ALSO]))
    choices = tuple(dict.fromkeys(filter(None, (each.strip() for each in kind.split("|")))))
    if len(choices) < 2:
        raise UserMistake(f"{written}: a choice needs two values at least: one|two", key="--fields")
    return AskedField(name, written, "choice", choices, about, is_optional)

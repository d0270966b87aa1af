"""Find the answer to judge, and the record it was made from, in a judge's message.

The answer is what is called so: `{"row": …, "answer": {…}}`, or the JSON after a heading with that word; else it is the
last JSON object. A JSON schema that has its properties says what they mean; else that is guessed from the answer itself
and the glossary.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from emulator.facts import Fact, facts_in
from emulator.glossary import ENTRY
from emulator.orders import without_orders
from emulator.reading import Reading
from emulator.words import plain

NAMES = ("answer", "output", "response", "candidate", "reply")
JSON_START = re.compile(r"[{\[]")
DECODER = json.JSONDecoder()
# So many letters before a JSON object may name it.
HEADING = 80


@dataclass(frozen=True, slots=True)
class Case:
    answer: dict[str, Any]
    schema: dict[str, Any]
    root: dict[str, Any]
    reading: Reading
    text: str
    """All that was said but the answer, in `plain` words."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A JSON value in a text, and what stands between it and the one before."""

    before: str
    value: Any


def case_in(message: str, instructions: str) -> Case | None:
    """Return the answer to judge and the record, or None if the message holds no answer."""
    pieces, rest = _pieces(without_orders(message))
    shapes = [piece.value for piece in (*pieces, *_pieces(instructions)[0]) if _is_schema(piece.value)]
    told = [piece for piece in pieces if not _is_schema(piece.value)]
    found = _inside(told) or _named(told)
    if found is None:
        return None
    said, record = found
    prose = "\n".join((*(piece.before for piece in pieces), rest))
    root = next((shape for shape in shapes if said.keys() <= shape["properties"].keys()), None)
    schema = root or _guessed(said, f"{instructions}\n\n{prose}")
    facts = [fact for value in record for fact in _facts(value)]
    facts += [fact for fact in facts_in(_without_glossary(prose, schema)) if fact.name.casefold() not in NAMES]
    known = "\n".join(f"{fact.name}: {fact.value}" for fact in facts) or prose
    reading = Reading(f"{instructions}\n\n{prose}", known, schema)
    reading.row_facts = facts
    values = " ".join(str(fact.value) for fact in facts)
    return Case(said, schema, schema, reading, plain(f"{prose} {orjson.dumps(record).decode()} {values}"))


def _pieces(text: str) -> tuple[list[Piece], str]:
    """The JSON objects and lists of objects in a text, and what comes after the last."""
    pieces: list[Piece] = []
    done = 0
    for start in JSON_START.finditer(text):
        if start.start() < done:
            continue
        try:
            value, end = DECODER.raw_decode(text, start.start())
        except ValueError:
            continue
        if isinstance(value, dict) or (value and isinstance(value[0], dict)):
            pieces.append(Piece(text[done : start.start()], value))
            done = end
    return pieces, text[done:]


def _is_schema(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("properties"), dict) and value.get("type") == "object"


def _inside(pieces: list[Piece]) -> tuple[dict[str, Any], list[Any]] | None:
    """The answer that is a part of an object, with all the rest."""
    for name in NAMES:
        for at, piece in enumerate(pieces):
            if not isinstance(piece.value, dict):
                continue
            said = _parsed(piece.value.get(name))
            if isinstance(said, dict):
                others = {key: value for key, value in piece.value.items() if key != name}
                return said, [*(each.value for each in pieces[:at]), others, *(each.value for each in pieces[at + 1 :])]
    return None


def _named(pieces: list[Piece]) -> tuple[dict[str, Any], list[Any]] | None:
    """The answer that has a heading, or stands last."""
    objects = [piece for piece in pieces if isinstance(piece.value, dict)]
    if not objects:
        return None
    named = [piece for name in reversed(NAMES) for piece in objects if name in piece.before[-HEADING:].casefold()]
    chosen = (named or objects)[-1]
    return chosen.value, [piece.value for piece in pieces if piece is not chosen]


def _facts(value: Any) -> Iterator[Fact]:
    """The facts of a JSON value; of a string in it that is JSON too, those in there."""
    for fact in facts_in(orjson.dumps(value).decode()):
        inner = _parsed(fact.value)
        yield from _facts(inner) if isinstance(inner, dict | list) else [fact]


def _parsed(value: Any) -> Any:
    if not isinstance(value, str) or value.strip()[:1] not in ("{", "["):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def _guessed(said: Mapping[str, Any], explanations: str) -> dict[str, Any]:
    """A schema that this answer could have been made for."""
    return {"type": "object", "properties": {name: _guess(value, explanations) for name, value in said.items()}}


def _guess(value: Any, explanations: str) -> dict[str, Any]:
    match value:
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number"}
        case dict():
            return _guessed(value, explanations)
        case list():
            return {"type": "array", "items": {"type": "string"}}
        case str() if choices := _choices(value, explanations):
            return {"type": "string", "enum": choices}
        case _:
            return {"type": "string"}


def _choices(value: str, explanations: str) -> list[str]:
    """What a glossary explains beside this value: the entries in the lines around it."""
    for block in _blocks(explanations):
        if value in block and len(block) > 1:
            return block
    return []


def _blocks(explanations: str) -> Iterator[list[str]]:
    block: list[str] = []
    for line in (*explanations.splitlines(), ""):
        entry = ENTRY.match(line)
        if entry:
            block.append(entry[1])
        elif block:
            yield block
            block = []


def _without_glossary(prose: str, schema: Mapping[str, Any]) -> str:
    explained = {value for part in schema["properties"].values() for value in (part.get("enum") or ())}
    lines = prose.splitlines()
    return "\n".join(line for line in lines if not ((entry := ENTRY.match(line)) and entry[1] in explained))

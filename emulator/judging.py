"""Judge an answer: decide whether a mind that reads the same row, tools and glossary could have given it.

A request for a verdict is known by its schema: an object with a boolean `passes` and a string `why`. Whatever a mind
has no opinion about passes.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from emulator.answers import answer
from emulator.cases import Case, case_in
from emulator.identifiers import fingerprint
from emulator.inventions import is_estimate, range_of, within_limit
from emulator.mistakes import WRONG_PER_HUNDRED
from emulator.quotes import wants_quote
from emulator.reading import Reading
from emulator.schemas import FORMATS, branches
from emulator.words import likeness, plain, words

WRONG = "[emulator:wrong]"
NO_OPINION = "Nothing in the record speaks against it."
# How like a fact's name must be to a property's, before leaving the property empty is a mistake.
PLAINLY_MEANT = 0.75
SAYS_NOTHING = (None, "", "unknown")
EXAMPLES = {example for example, _ in FORMATS.values()}


def wants_verdict(schema: Mapping[str, Any]) -> bool:
    properties = schema.get("properties") or {}
    if "passes" not in properties:
        return False
    return _is(properties["passes"], "boolean") and _is(properties.get("why"), "string")


def verdict(reading: Reading, schema: dict[str, Any], tier: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of a judge. It objects to nothing that is right, and misses as many faults as it would make
    itself.

    It finds for what is `known` to pass. What else the schema asks for is filled as ever.
    """
    objection = None if known.get("passes") is True else next(_objections(reading, tier), None)
    why = within_limit(objection or NO_OPINION, schema["properties"]["why"])
    return answer(reading, schema, ()).value | {"passes": objection is None, "why": why}


def _is(schema: object, kind: str) -> bool:
    found = schema.get("type") if isinstance(schema, dict) else None
    return kind in found if isinstance(found, list) else found == kind


def _objections(reading: Reading, tier: str) -> Iterator[str]:
    case = case_in(reading.row_text, reading.instructions)
    if WRONG in (reading.row_text if case is None else orjson.dumps(case.answer).decode()):
        yield f"It says itself that it is wrong: {WRONG}."
    if case is not None and fingerprint(reading.row_text, "overlooks") % 100 >= WRONG_PER_HUNDRED[tier]:
        yield from _against(case.answer, case.schema, case)


def _against(said: Mapping[str, Any], schema: Mapping[str, Any], case: Case) -> Iterator[str]:
    """What speaks against each property of an object, with what this mind would have said."""
    # Nothing is required: what this mind knows nothing of is left out.
    own: dict[str, Any] = answer(case.reading, {**schema, "required": []}, ()).value
    for name, value in said.items():
        options, _ = branches(schema["properties"].get(name) or {}, case.root)
        option = options[0] if options else {}
        match value:
            case dict():
                if "properties" in option:
                    yield from _against(value, option, case)
            case list():
                for item in value:
                    if isinstance(item, str):
                        yield from _against_text(name, item, {}, None, case)
            case _:
                yield from _against_value(name, value, option, own.get(name), case)


def _against_value(name: str, value: Any, schema: Mapping[str, Any], own: Any, case: Case) -> Iterator[str]:
    if "enum" in schema:
        if own is not None and value != own:
            yield f"{name}: it says {value!r}, but the record speaks for {own!r}."
    elif value in SAYS_NOTHING:
        if own not in SAYS_NOTHING and _is_told(name, schema, own, case):
            yield f"{name}: it is left open, but the record says {own!r}."
    elif isinstance(value, bool):
        if isinstance(own, bool) and value is not own and _is_told(name, schema, own, case):
            yield f"{name}: it says {value}, but the record says {own}."
    elif isinstance(value, int | float):
        yield from _against_number(name, value, schema, own, case)
    else:
        yield from _against_text(name, str(value), schema, own, case)


def _is_told(name: str, schema: Mapping[str, Any], own: Any, case: Case) -> bool:
    """Whether a fact of this very name says what this mind would say."""
    description = str(schema.get("description", ""))
    named = (fact for fact in case.reading.row_facts if likeness(name, description, fact.name) >= PLAINLY_MEANT)
    return any(isinstance(own, bool) or str(fact.value) == str(own) for fact in named)


def _against_number(name: str, value: float, schema: Mapping[str, Any], own: Any, case: Case) -> Iterator[str]:
    bounds = range_of(schema, name)
    if bounds and not bounds[0] <= value <= bounds[1]:
        yield f"{name}: {value} is not from {bounds[0]:g} to {bounds[1]:g}."
    elif own is not None and value != own and not is_estimate(name) and plain(f"{value:g}") not in case.text:
        yield f"{name}: it says {value}, but the record says {own}."


def _against_text(name: str, value: str, schema: Mapping[str, Any], own: Any, case: Case) -> Iterator[str]:
    description = str(schema.get("description", ""))
    if within_limit(value, schema) != value:
        yield f"{name}: it is longer than it may be."
    if plain(value) in case.text or value == own or value in EXAMPLES:
        return
    if wants_quote(name, description):
        yield f"{name}: this does not stand in the record: {value!r}."
    elif "pattern" in schema or schema.get("format"):
        if isinstance(own, str):
            yield f"{name}: it says {value!r}, but the record says {own!r}."
    elif not _is_grounded(value, case.text):
        yield f"{name}: nothing in the record says {value!r}."


def _is_grounded(value: str, text: str) -> bool:
    """Whether most of a text's words stand in the record, and every figure does."""
    telling = words(value)
    if any(f" {figure} " not in text for figure in re.findall(r"\d+", plain(value))):
        return False
    return 2 * sum(f" {word}" in text for word in telling) >= len(telling)

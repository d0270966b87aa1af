"""Decide how hard a row is, by features of its text that a router can see too.

Each feature adds to the chance that a row is hard. Which rows are is drawn from their text, the same every time.
"""

import re
from typing import Literal

from emulator.facts import facts_in
from emulator.words import words

Feature = Literal["missing", "long", "noisy", "foreign", "ambiguous"]

PLAIN_PER_THOUSAND = 30
MOST_PER_THOUSAND = 950
ADDED_PER_THOUSAND: dict[Feature, int] = {
    "missing": 220,
    "long": 200,
    "noisy": 220,
    "foreign": 280,
    "ambiguous": 220,
}
LONG_LETTERS = 700
# A name with nothing after it, on a line of its own or in JSON.
EMPTY = re.compile(
    r"""^[ \t]*(?:[-*][ \t]+)?[\w][\w .-]{0,40}:[ \t]*(?:null|none|n/a|unknown|\?|-)?[ \t]*$"""
    r"""|"[^"]{1,40}"[ \t]*:[ \t]*(?:null|""|"(?:null|none|n/a|unknown|\?|-)")""",
    re.IGNORECASE | re.MULTILINE,
)
NOISE = re.compile(r"([!?*#~=<>|])\1\1|\ufffd|\u00c3.|</?[a-zA-Z]+[^>\n]{0,40}>")
ORDINARY = set(" \t\r\n.,;:'\"()[]{}/&%-+@_#!?$€£’“”–…\\*`")
MOST_ODD = 0.04
FOREIGN_LETTERS = 0.04
FOREIGN_WORDS = {
    "avec", "che", "com", "das", "de", "del", "der", "des", "die", "een", "ein", "eine", "el", "est", "für", "het",
    "il", "inte", "ist", "jest", "las", "le", "les", "los", "mit", "nicht", "nie", "niet", "non", "não", "och", "para",
    "pas", "per", "por", "pour", "sono", "uma", "und", "une", "van", "voor",
}  # fmt: skip
ENGLISH_WORDS = {
    "and", "are", "for", "has", "have", "in", "is", "it", "my", "not", "of", "on", "the", "this", "to", "was", "with",
}  # fmt: skip
NAMING = {"name", "company", "title", "subject", "organisation", "organization", "brand", "product"}
TELLS_NOTHING = {
    "group", "holding", "holdings", "international", "global", "company", "limited", "services", "service", "solution",
    "general", "national", "united", "first", "new", "systems", "system", "partner", "capital", "ltd", "inc", "plc",
}  # fmt: skip
EITHER = re.compile(r"\b(?:or|aka|formerly|also known as|possibly)\b|\?|/", re.IGNORECASE)
SHORT_NAME = 4


def features(text: str) -> frozenset[Feature]:
    found: dict[Feature, bool] = {
        "missing": any(match.start() > 0 or match[0].startswith('"') for match in EMPTY.finditer(text)),
        "long": len(text) > LONG_LETTERS,
        "noisy": _is_noisy(text),
        "foreign": _is_foreign(text),
        "ambiguous": _is_ambiguous(text),
    }
    return frozenset(feature for feature, is_there in found.items() if is_there)


def hard_per_thousand(text: str) -> int:
    """Return the chance, in thousandths, that a row with this text is hard."""
    return min(MOST_PER_THOUSAND, PLAIN_PER_THOUSAND + sum(ADDED_PER_THOUSAND[feature] for feature in features(text)))


def _is_noisy(text: str) -> bool:
    odd = sum(not letter.isalnum() and letter not in ORDINARY for letter in text)
    return odd > MOST_ODD * len(text) or NOISE.search(text) is not None


def _is_foreign(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    if sum(not letter.isascii() for letter in letters) > max(2.0, FOREIGN_LETTERS * len(letters)):
        return True
    said = re.findall(r"\w+", text.casefold())
    foreign, english = (len(listed.intersection(said)) for listed in (FOREIGN_WORDS, ENGLISH_WORDS))
    return foreign >= 2 and foreign > english


def _is_ambiguous(text: str) -> bool:
    names = [str(fact.value) for fact in facts_in(text) if NAMING.intersection(words(fact.name))]
    return any(
        len(name) <= SHORT_NAME or EITHER.search(name) is not None or TELLS_NOTHING.issuperset(words(name))
        for name in names
        if len(name) <= 80
    )

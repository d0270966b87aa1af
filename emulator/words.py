"""Words and the likeness of names: all that a mind understands of language."""

import re
from functools import lru_cache

# Words too common to tell one thing from another.
DULL = {
    "a", "an", "and", "any", "are", "as", "at", "be", "by", "for", "from", "full", "given", "if", "in", "is", "it",
    "its", "of", "on", "one", "or", "that", "the", "their", "this", "to", "was", "what", "which", "with", "your",
}  # fmt: skip
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
NOT_WORD = re.compile(r"[^0-9a-z\u00c0-\u024f\u0370-\u04ff\u3040-\u9fff\uac00-\ud7af]+")


@lru_cache(maxsize=65536)
def words(name: str) -> tuple[str, ...]:
    """Return the significant words of a name or phrase, in the singular."""
    split = NOT_WORD.split(CAMEL.sub(" ", name).casefold())
    return tuple(_singular(word) for word in split if word and word not in DULL)


@lru_cache(maxsize=65536)
def likeness(name: str, description: str, other: str) -> float:
    """Return the likeness of a property and the name of a fact, from 0 (nothing in common) to 1 (the same name)."""
    mine, theirs = words(name), words(other)
    if not mine or not theirs:
        return 0.0
    if mine == theirs:
        return 1.0
    described = words(description)
    ours, others = set(mine), set(theirs)
    # Of two facts that fit by name, the one the description also speaks of fits better.
    spoken_of = 0.1 * len(others.intersection(described)) / len(others)
    if ours <= others:
        return 0.75 + spoken_of
    if others <= ours:
        return 0.6 + 0.1 * len(others) / len(ours) + spoken_of
    if others.issubset(described):
        # "The headquarters, or the country": what is named first is wanted first.
        return 0.5 + 0.05 / (1 + described.index(theirs[0]))
    return 0.0


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """Return text for finding phrases in: its words in lower case between single spaces, with a space at each end."""
    return f" {' '.join(NOT_WORD.split(text.casefold())).strip()} "


def as_term(phrase: str) -> str:
    """Return a phrase as it is looked for in `plain` text: a long word may have an ending (bank, banking)."""
    return f" {phrase}" if len(phrase) >= 4 else f" {phrase} "


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word

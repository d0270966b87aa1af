"""Choose an enum's value: by a fact that names it, else by the instructions' words for each value.

Instructions explain a value in a line of its own: `- VALUE: word, word, word` or `**VALUE**: …`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from emulator.words import DULL, as_term, plain, words

ENTRY = re.compile(
    r"^[ \t]*(?:[-*•]|\d+[.)])?[ \t]*[*_`\"']*([^:*`\"'\n]{1,60}?)[*_`\"']*[ \t]*"
    r"(?::|—|–| - )[*_`]*[ \t]+(\S.*)$",
    re.MULTILINE,
)
SPLIT = re.compile(r"[,;.()/]| and | or | e\.g\. ")
# What an undecided mind settles on, if it is on offer.
CATCH_ALLS = ("unknown", "other", "unclear", "none", "not applicable", "n/a", "general")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value that may be chosen, and what supports it: pieces of `plain` text, each with its weight."""

    value: str
    terms: tuple[tuple[str, float], ...]

    def score(self, text: str) -> float:
        """How much in a `plain` text speaks for this value."""
        score = 0.0
        for term, weight in self.terms:
            if term in text:
                score += weight
        return score


@lru_cache(maxsize=512)
def glossary(values: tuple[str, ...], explanations: str) -> tuple[Entry, ...]:
    """Return the choices with all that `explanations` say about them."""
    said: dict[str, list[str]] = {}
    for name, explanation in ENTRY.findall(explanations):
        said.setdefault(plain(name), []).append(explanation)
    return tuple(_entry(value, " , ".join(said.get(plain(value), ()))) for value in values)


def explains(values: tuple[str, ...], explanations: str) -> bool:
    """Return whether `explanations` say anything about one of these values."""
    named = {plain(name) for name, _ in ENTRY.findall(explanations)}
    return any(plain(value) in named for value in values)


def _entry(value: str, explanation: str) -> Entry:
    phrases = {phrase for piece in SPLIT.split(explanation.casefold()) if (phrase := plain(piece).strip())}
    telling = {phrase for phrase in phrases if phrase.count(" ") <= 3 and phrase not in DULL}
    loose = {word for phrase in phrases if " " in phrase for word in phrase.split() if len(word) > 3} - DULL
    own = {word for word in words(value) if len(word) > 2}
    weights = dict.fromkeys(loose, 1.0) | {phrase: 2.0 * (1 + phrase.count(" ")) for phrase in telling}
    weights |= dict.fromkeys(own, 1.5)
    name = plain(value).strip()
    weights[name] = 3.0 * (1 + name.count(" "))
    return Entry(value, tuple((as_term(phrase), weight) for phrase, weight in sorted(weights.items())))


def best_of(entries: Sequence[Entry], text: str) -> list[str]:
    """Return the values with some support, best first; ties in the order of their names."""
    scored = sorted((-score, entry.value) for entry in entries if (score := entry.score(text)) > 0)
    return [value for _, value in scored]


def catch_all(values: Sequence[str]) -> str | None:
    folded = {plain(value).strip(): value for value in values}
    return next((folded[name] for name in CATCH_ALLS if name in folded), None)

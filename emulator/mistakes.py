"""Which rows a mind gets wrong, and how: drawn from the row's text, so the same rows are hard every time.

About one row in eight is hard; or, if that is set, more of those with something hard about them. A cheap model fails
most of those, a dear one hardly any, and what a dear one fails the cheap ones fail too. Told so once, a cheap one mends
half of them, a better one most, the best all. More effort helps a little.
"""

from typing import Literal

from emulator.effort import wrong_per_hundred
from emulator.hardness import hard_per_thousand
from emulator.identifiers import fingerprint
from emulator.reading import Reading

Mistake = Literal["other_value", "ungrounded", "skipped_tools", "broken_limit"]

HARD_PER_THOUSAND = 120
WRONG_PER_HUNDRED = {"haiku": 60, "sonnet": 15, "opus": 2}
# When hardness follows from features: fewer plain rows are hard, and the hard ones harder.
WRONG_BY_FEATURES = {"haiku": 85, "sonnet": 30, "opus": 4}
MENDS_PER_HUNDRED = {"haiku": 50, "sonnet": 80, "opus": 100}
KINDS: tuple[Mistake, ...] = ("other_value", "ungrounded", "skipped_tools", "broken_limit")


def is_hard(row_text: str, *, by_features: bool = False) -> bool:
    per_thousand = hard_per_thousand(row_text) if by_features else HARD_PER_THOUSAND
    return fingerprint(row_text, "hard") % 1000 < per_thousand


def mends(reading: Reading, tier: str) -> bool:
    """Whether a mind of this tier has been told what is wrong, and heeds it."""
    return bool(reading.corrections) and fingerprint(reading.row_text, "mends") % 100 < MENDS_PER_HUNDRED[tier]


def mistakes_of(reading: Reading, tier: str) -> tuple[Mistake, ...]:
    """What goes wrong with this row, the first that the request gives occasion for; empty when all goes well."""
    row = reading.row_text
    if not is_hard(row, by_features=reading.by_features):
        return ()
    usual = (WRONG_BY_FEATURES if reading.by_features else WRONG_PER_HUNDRED)[tier]
    if fingerprint(row, "wrong") % 100 >= wrong_per_hundred(usual, reading.effort, tier):
        return ()
    if mends(reading, tier):
        return ()
    first = fingerprint(row, "kind") % len(KINDS)
    return KINDS[first:] + KINDS[:first]

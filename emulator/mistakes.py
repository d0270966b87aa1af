"""Which rows a mind gets wrong, and how. By the row's text alone, so the same rows are hard every time.

About one row in eight is hard. A cheap model fails most of those, a dear one hardly any, and what a dear one fails the
cheap ones fail too. Told so once, it mends half of them; the others need a better model.
"""

from typing import Literal

from emulator.identifiers import fingerprint
from emulator.reading import Reading

Mistake = Literal["other_value", "ungrounded", "skipped_tools", "broken_limit"]

HARD_PER_THOUSAND = 120
WRONG_PER_HUNDRED = {"haiku": 60, "sonnet": 15, "opus": 2}
KINDS: tuple[Mistake, ...] = ("other_value", "ungrounded", "skipped_tools", "broken_limit")


def is_hard(row_text: str) -> bool:
    return fingerprint(row_text, "hard") % 1000 < HARD_PER_THOUSAND


def mistakes_of(reading: Reading, tier: str) -> tuple[Mistake, ...]:
    """What goes wrong with this row, the first that the request gives occasion for; empty when all goes well."""
    row = reading.row_text
    if not is_hard(row) or fingerprint(row, "wrong") % 100 >= WRONG_PER_HUNDRED[tier]:
        return ()
    if reading.corrections and fingerprint(row, "mends") % 2 == 0:
        return ()
    first = fingerprint(row, "kind") % len(KINDS)
    return KINDS[first:] + KINDS[:first]

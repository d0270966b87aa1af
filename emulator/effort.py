"""The effect of effort: thinking tokens, and the chance of a wrong answer.

A request that names no effort is thought about as its model usually does.
"""

from emulator.identifiers import fingerprint

EFFORTS = ("low", "medium", "high", "xhigh", "max")
USUAL = {"haiku": "medium", "sonnet": "high", "opus": "medium"}
THINKING_TOKENS = {"low": 30, "medium": 90, "high": 240, "xhigh": 600, "max": 1500}
# What each step up leaves of the chance of being wrong; a step down divides by it.
LEFT_PER_STEP = 0.8
HARD_TAKES = 2


def wrong_per_hundred(usual: float, effort: str | None, tier: str) -> float:
    """Return the share of hard rows, in percent, that a tier gets wrong at this effort; `usual` is its share at its
    usual effort.
    """
    steps = EFFORTS.index(effort or USUAL[tier]) - EFFORTS.index(USUAL[tier])
    return usual * LEFT_PER_STEP**steps


def thinking_tokens(row_text: str, effort: str, *, is_hard: bool) -> int:
    """Return the tokens of thinking for a row in one turn: from 0.5 to 1.5 times the usual number, for a hard row twice
    that.
    """
    share = 0.5 + fingerprint(row_text, "thinks") % 101 / 100
    return round(THINKING_TOKENS[effort] * share * (HARD_TAKES if is_hard else 1))

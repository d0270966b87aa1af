"""Plan an eval before it costs anything: how many rows it needs, its power, and the price of deciding.

Shares, margins and differences are from 0 to 1. A difference below 0 is a candidate that is worse.
"""

import math
from collections.abc import Sequence

import numpy as np

from rowtide.binomial import binomial_probability
from rowtide.evals.exact_tango import exact_critical_value
from rowtide.evals.paired_test import PairedCounts, critical_value, tango_score
from rowtide.evals.verdicts import DecisionPrice

POWER = 0.8
LEAST_CHANCE = 1e-12  # a count that is rarer than this changes no figure that is shown


def rows_without_disagreement(margin: float, alpha: float) -> int:
    """Return the fewest rows that prove the margin when the versions never differ, by the exact test: (1 - margin)^n ≤
    alpha.
    """
    return math.ceil(math.log(alpha) / math.log1p(-margin) - 1e-9)


def rows_by_score(margin: float, alpha: float) -> int:
    """Return the fewest rows that prove the margin when the versions never differ, by the score test: slightly fewer
    than by the exact test at alpha 0.05, and more at the lower levels of planned looks.
    """
    return math.ceil(critical_value(alpha) ** 2 * (1 - margin) / margin - 1e-9)


def least_rows(margin: float, alpha: float) -> int:
    """Return the fewest rows that can prove the margin at all: a verdict must pass the exact and the score test."""
    return max(rows_without_disagreement(margin, alpha), rows_by_score(margin, alpha))


def least_margin(rows: int, alpha: float) -> float:
    """Return the smallest margin that so many rows can prove, when the versions never differ on them; 1
    without rows.
    """
    if not rows:
        return 1.0
    return max(1 - alpha ** (1 / rows), critical_value(alpha) ** 2 / (rows + critical_value(alpha) ** 2))


def explain_too_few_rows(rows: int, margin: float, alpha: float) -> str | None:
    """Return a sentence when so many rows can never prove the margin, with how many are needed; None when they can."""
    needed = least_rows(margin, alpha)
    if rows >= needed:
        return None
    return (
        f"{rows} golden rows can never show that a version is not worse by {100 * margin:g} points: it takes {needed} "
        f"even if no answer differs; label {needed - rows} more, or allow {100 * least_margin(rows, alpha):.1f} points"
    )


def rows_needed(
    share_that_differ: float, margin: float, alpha: float, power: float = POWER, difference: float = 0.0
) -> int | None:
    """Return about how many rows prove the margin with this power: n ≈ (z_alpha + z_power)²·(q - d²)/(margin + d)².

    That is 6.2·q/margin² at alpha 0.05 and power 0.8, and never fewer than `least_rows`. Returns None when no number of
    rows does: the candidate is worse by the margin or more.
    """
    if margin + difference <= 0:
        return None
    variance = max(share_that_differ - difference**2, 0.0)
    asked = (critical_value(alpha) + critical_value(1 - power)) ** 2 * variance / (margin + difference) ** 2
    return max(math.ceil(asked - 1e-9), least_rows(margin, alpha))


def statistical_power(
    rows: int,
    share_that_differ: float,
    margin: float,
    alpha: float,
    difference: float = 0.0,
    *,
    limit: float | None = None,
) -> float:
    """Return the probability that one look at `rows` rows proves the margin, exactly, by enumerating all possible
    counts.

    It applies the rule of verdicts, unless `limit` gives a z that is enough instead. At `difference` = -margin it is
    the level. Raises ValueError when more of the rows would have to differ than `share_that_differ`.
    """
    if not abs(difference) <= share_that_differ <= 1:
        raise ValueError(f"a difference of {difference:g} asks for at least as many rows that differ")
    limit = exact_critical_value(rows, margin, alpha) if limit is None else limit
    if share_that_differ == 0:
        return float(tango_score(rows, 0, 0, -margin) >= limit)
    differing = np.arange(rows + 1)
    likely = binomial_probability(differing, rows, share_that_differ)
    differing, likely = differing[likely > LEAST_CHANCE, None], likely[likely > LEAST_CHANCE, None]
    fixed = np.arange(differing.max() + 1)[None, :]
    weights = likely * binomial_probability(fixed, differing, (1 + difference / share_that_differ) / 2)
    passes = tango_score(rows, fixed, np.maximum(differing - fixed, 0), -margin) >= limit
    return float((weights * passes).sum())


def price_of_deciding(
    seen: Sequence[tuple[PairedCounts, float]], alpha: float, cost_micro_per_row: int, target: float = POWER
) -> DecisionPrice | None:
    """Return how many more rows, labels and micro-dollars it takes to prove all margins, given the counts seen so far
    (each with its margin).

    As many rows are expected to differ as did. The candidate is expected to be as much worse as it seemed, or equal: an
    apparent advantage is not counted on. Returns None when more rows will not help: it looks worse by a margin or more.
    """
    more = labels = 0
    for counts, margin in seen:
        needed = rows_needed(counts.share_that_differ, margin, alpha, target, min(counts.difference, 0.0))
        if needed is None:
            return None
        missing = max(needed - counts.rows, 0)
        more = max(more, missing)
        labels = max(labels, math.ceil(missing * counts.share_that_differ - 1e-9))
    return DecisionPrice(more, labels, more * cost_micro_per_row)

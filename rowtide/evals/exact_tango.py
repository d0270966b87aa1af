"""The exact test behind a verdict: the worst-case p-value of Tango's z, by counting all outcomes.

The normal distribution promises the score test's level only roughly: of candidates that are worse by exactly 3 points,
6.4% pass at 90 rows where 5% was promised. So a verdict is not read off the normal distribution. Its p-value is the
largest chance of so large a z, over every share of rows that may differ, by enumeration of all counts (the exact
unconditional test: Hsueh, Liu, Chen, Biometrics 57 (2001), 478-483; Sidik, Statistics in Medicine 22 (2003), 265-278).
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from rowtide.binomial import binomial_probability, binomial_tail
from rowtide.evals.paired_test import critical_value, tango_score

SHARES = np.linspace(0, 1, 48) ** 3  # closer together where few rows differ: there the chance changes fastest
DEVIATIONS = 8  # from the mean; what lies beyond has no chance that counts
ROUNDING = 1e-9
STEPS = 12  # of the search for a limit: it ends 0.0003 from it, or a little more where rows are very few


def worst_case_p_value(rows: int, z: float, margin: float) -> float:
    """Return the largest probability, over all shares of rows that may differ, that a candidate worse by exactly
    `margin` (0 or more) reaches this z or a larger one.

    Returns 1 without rows. 480 rows take some milliseconds.
    """
    if not rows:
        return 1.0
    least = _least_fixed(rows, z - ROUNDING, margin)
    shares = (margin + (1 - margin) * SHARES)[:, None]
    reach = int(DEVIATIONS * np.sqrt(rows) / 2) + DEVIATIONS
    differing = np.rint(rows * shares).astype(int) + np.arange(-reach, reach + 1)
    inside = np.clip(differing, 0, rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        fixed_share = np.where(shares > 0, (1 - margin / shares) / 2, 0.5)
    likely = np.where(inside == differing, binomial_probability(inside, rows, shares), 0)
    return float(min(1.0, (likely * binomial_tail(least[inside], inside, fixed_share)).sum(axis=1).max()))


@lru_cache(maxsize=256)
def exact_critical_value(rows: int, margin: float, alpha: float) -> float:
    """Return a z that a candidate worse by exactly `margin` reaches with probability `alpha` at most: the smallest such
    z, or slightly more.

    Returns infinity without rows. For planning and simulation; a verdict only needs `worst_case_p_value` of its z.
    """
    if not rows:
        return math.inf
    low = critical_value(alpha)
    if worst_case_p_value(rows, low, margin) <= alpha:
        return low
    width = 1.0
    while worst_case_p_value(rows, low + width, margin) > alpha:  # so few rows that hardly any outcome is rare enough
        width *= 2
    high = low + width
    for _ in range(STEPS):
        middle = (low + high) / 2
        if worst_case_p_value(rows, middle, margin) <= alpha:
            high = middle
        else:
            low = middle
    return high


def _least_fixed(rows: int, z: float, margin: float) -> npt.NDArray[Any]:
    """For each number of rows that differ, 0 to `rows`: the fewest fixed ones among them that reach z; one more than
    there are where none do."""
    differing = np.arange(rows + 1)
    low, high = np.zeros(rows + 1, int), differing + 1
    while (low < high).any():
        middle = (low + high) // 2
        fixed = np.minimum(middle, differing)
        reaches = (middle > differing) | (tango_score(rows, fixed, differing - fixed, -margin) >= z)
        low, high = np.where(reaches | (low >= high), low, middle + 1), np.where(reaches & (low < high), middle, high)
    return high

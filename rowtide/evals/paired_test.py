"""Tango's score test for paired shares: is the candidate worse than the incumbent by more than a margin?

Both versions answer the same rows, so only rows on which they differ speak: `fixed`, where the candidate alone is
good, and `broken`, where the incumbent alone is. All shares and margins are from 0 to 1 (0.03 is 3 points). The margin
itself is tested, with the variance that holds under it: where few rows differ, an interval of the mean lets 7 to 22% of
candidates pass that should not. What is left of that error, `exact_test` takes out.

T. Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design,
Statistics in Medicine 17 (1998), 891-908.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[Any] | int  # whole numbers, of any shape

HALVINGS = 40  # of an interval of length 2; finer than anything that is shown
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """How two versions did on the same rows. Raises ValueError for counts that no rows can give."""

    rows: int
    fixed: int
    """Rows on which only the candidate is good."""
    broken: int
    """Rows on which only the incumbent is good."""

    def __post_init__(self) -> None:
        if min(self.rows, self.fixed, self.broken) < 0 or self.fixed + self.broken > self.rows:
            raise ValueError(f"{self.fixed} fixed and {self.broken} broken of {self.rows} rows cannot be")

    @property
    def difference(self) -> float:
        """How much better the candidate is, from -1 to 1; 0 without rows."""
        return (self.fixed - self.broken) / self.rows if self.rows else 0.0

    @property
    def share_that_differ(self) -> float:
        """The share of rows on which the two differ; 0 without rows."""
        return (self.fixed + self.broken) / self.rows if self.rows else 0.0

    @property
    def exchanged(self) -> "PairedCounts":
        """The counts with the two versions exchanged."""
        return PairedCounts(self.rows, self.broken, self.fixed)


def critical_value(alpha: float) -> float:
    """Return the z that a standard normal variable exceeds with probability `alpha` (between 0 and 1)."""
    return NormalDist().inv_cdf(1 - alpha)


def p_value(z: float) -> float:
    """Return the probability of this z or a larger one under the normal distribution; `exact_tango` has
    the exact one.
    """
    return NormalDist().cdf(-z)


def tango_score(rows: Counts, fixed: Counts, broken: Counts, difference: Floats | float) -> Floats:
    """Return Tango's z for the hypothesis that the candidate is better by `difference` (negative: worse), from -1 to 1.

    The arrays are broadcast; the result has their common shape. z grows with `fixed`, and falls with `broken` and
    `difference`. At difference 0 it is McNemar's. Where nothing can vary, z is 0 if the counts are as expected, and
    infinite otherwise.
    """
    n, b, c = (np.asarray(each, np.float64) for each in (rows, fixed, broken))
    d = np.asarray(difference, np.float64)
    linear = (2 * n - b + c) * d - b - c
    constant = -c * d * (1 - d)
    root = np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        broken_share = (root - linear) / (4 * n)  # the likeliest under the hypothesis
        variance = n * (2 * broken_share + d * (1 - d))
        surplus = b - c - n * d
        z = surplus / np.sqrt(np.maximum(variance, 0))
    still = ~(variance > ROUNDING * np.maximum(n, 1))
    return np.where(still, np.where(np.abs(surplus) <= ROUNDING * (n + 1), 0, np.copysign(np.inf, surplus)), z)


def tango_score_of_counts(counts: PairedCounts, difference: float) -> float:
    """Return `tango_score` for the counts of one pair of versions; 0 without rows."""
    return float(tango_score(counts.rows, counts.fixed, counts.broken, difference))


def tango_lower_bound(counts: PairedCounts, alpha: float) -> float:
    """Return a lower bound of how much better the candidate is, with one-sided confidence 1 - alpha; from -1 to 1, and
    -1 without rows.

    It is above -margin exactly where `tango_score_of_counts(counts, -margin)` is above `critical_value(alpha)`.
    """
    if not counts.rows:
        return -1.0
    below, above, limit = -1.0, 1.0, critical_value(alpha)
    for _ in range(HALVINGS):
        middle = (below + above) / 2
        if tango_score_of_counts(counts, middle) > limit:
            below = middle
        else:
            above = middle
    return below


def tango_interval(counts: PairedCounts, confidence: float = 0.95) -> tuple[float, float]:
    """Return Tango's two-sided interval of how much better the candidate is: (low, high), each from -1 to 1."""
    alpha = (1 - confidence) / 2
    return tango_lower_bound(counts, alpha), -tango_lower_bound(counts.exchanged, alpha)

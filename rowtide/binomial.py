"""Binomial statistics: exact probabilities, and Clopper and Pearson's bounds. Imports scipy."""

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[Any] | int


def clopper_pearson_lower(hits: int, rows: int, confidence: float) -> float:
    """Return Clopper and Pearson's one-sided lower bound: the true share is above it with this confidence. 0 without
    hits.
    """
    return float(scipy.stats.beta.ppf(1 - confidence, hits, rows - hits + 1)) if hits else 0.0


def clopper_pearson_upper(hits: int, rows: int, confidence: float) -> float:
    """Return Clopper and Pearson's one-sided upper bound: the true share is below it with this confidence. 1 if every
    row is a hit.
    """
    return 1.0 - clopper_pearson_lower(rows - hits, rows, confidence)


def binomial_probability(hits: Counts, rows: Counts, share: Floats | float) -> Floats:
    """Return the chance of exactly so many hits among so many rows, for arrays that can be broadcast."""
    return np.asarray(scipy.stats.binom.pmf(hits, rows, share), np.float64)


def binomial_tail(hits: Counts, rows: Counts, share: Floats | float) -> Floats:
    """Return the chance of so many hits or more."""
    return np.asarray(scipy.stats.binom.sf(np.asarray(hits) - 1, rows, share), np.float64)

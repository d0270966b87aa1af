"""The verdict on a candidate, and what it stands on: better, not worse, worse, undecided, or invalid."""

from dataclasses import dataclass
from typing import Literal

from rowtide.evals.paired_test import PairedCounts

Verdict = Literal["better", "not_worse", "worse", "undecided", "invalid"]
PASSES: frozenset[Verdict] = frozenset({"better", "not_worse"})
"""The verdicts with which a version may run. `undecided` blocks: it is no proof."""


@dataclass(frozen=True, slots=True)
class Margins:
    """By how much a candidate may be worse and still pass, as shares from 0 to 1 (0.03 is 3 points)."""

    right: float = 0.03
    harm: float = 0.02


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of both versions, tested."""

    counts: PairedCounts
    margin: float
    alpha: float
    z: float
    """Of the hypothesis that the candidate is worse by the margin."""
    p_value: float
    """The largest chance of so large a z where that is so, exactly."""
    bound: float
    """The candidate is better by at least this (below 0: worse by at most this), with confidence 1 - alpha.
    Never above -margin where that was not proven."""
    is_not_worse: bool
    """Not by the margin."""
    is_better: bool
    """At all (margin 0). A higher hurdle than not being worse, so it needs no level of its own."""
    is_worse: bool
    """At all. A candidate can be certainly worse, and certainly not by the margin."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, and what it stands on."""

    verdict: Verdict
    right: Comparison
    harm: Comparison
    reasons: tuple[str, ...]
    """For `invalid`: what was wrong with the comparison. For `worse`: the conditions that failed, if any did."""

    @property
    def passes(self) -> bool:
        return self.verdict in PASSES


@dataclass(frozen=True, slots=True)
class DecisionPrice:
    """What it takes to decide, beyond what was asked."""

    rows: int
    labels: int
    """Of these, the rows on which the two will differ: only they need an answer that is known."""
    cost_micro: int
    """In micro-dollars."""

"""The verdicts on a candidate (better, not worse, worse, undecided, invalid) and the comparisons they rest on."""

from dataclasses import dataclass
from typing import Literal

from rowtide.evals.paired_test import PairedCounts

Verdict = Literal["better", "not_worse", "worse", "undecided", "invalid"]
PASSES: frozenset[Verdict] = frozenset({"better", "not_worse"})
"""The verdicts that let a version run. `undecided` does not: it proves nothing."""


@dataclass(frozen=True, slots=True)
class Margins:
    """By how much a candidate may be worse and still pass, as shares from 0 to 1 (0.03 is 3 points)."""

    right: float = 0.03
    harm: float = 0.02


@dataclass(frozen=True, slots=True)
class Comparison:
    """The test of one measure (right or harm) of both versions."""

    counts: PairedCounts
    margin: float
    alpha: float
    z: float
    """Tango's z for the hypothesis that the candidate is worse by the margin."""
    p_value: float
    """The exact, largest probability of this z or a larger one under that hypothesis."""
    bound: float
    """The candidate is better by at least this (below 0: worse by at most this), with confidence 1 - alpha.
    Never above -margin where that was not proven."""
    is_not_worse: bool
    """Whether it is proven that the candidate is not worse by the margin."""
    is_better: bool
    """Whether it is proven that the candidate is better at all (margin 0): a higher hurdle than not being worse, so it
    needs no level of its own."""
    is_worse: bool
    """Whether it is proven that the candidate is worse at all. It can be worse, and still not worse by the margin."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, and the comparisons it rests on."""

    verdict: Verdict
    right: Comparison
    harm: Comparison
    reasons: tuple[str, ...]
    """For `invalid`: what was wrong with the comparison. For `worse`: the conditions that failed, if any."""

    @property
    def passes(self) -> bool:
        return self.verdict in PASSES


@dataclass(frozen=True, slots=True)
class DecisionPrice:
    """What it takes to decide, beyond what was asked."""

    rows: int
    labels: int
    """The rows among them on which the versions will differ: only these need a known answer."""
    cost_micro: int
    """In micro-dollars."""

"""The verdict on a candidate after a look: better, not worse, worse, undecided, or invalid.

A candidate passes only if every condition holds, each tested at the look's whole level: a test that needs all of them
needs no correction (an intersection-union test). `right` alone does not do: who quarantines less gets more rows right
and more rows wrong, so harm is tested too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rowtide.evals.exact_tango import worst_case_p_value
from rowtide.evals.paired_test import PairedCounts, tango_lower_bound, tango_score_of_counts

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


def compare_measure(counts: PairedCounts, margin: float, alpha: float) -> Comparison:
    """Test one measure of both versions at one look."""
    z, rows = tango_score_of_counts(counts, -margin), counts.rows
    chance = worst_case_p_value(rows, z, margin)
    is_not_worse, bound = chance <= alpha, tango_lower_bound(counts, alpha)
    return Comparison(
        counts=counts,
        margin=margin,
        alpha=alpha,
        z=z,
        p_value=chance,
        bound=bound if is_not_worse else min(bound, -margin),
        is_not_worse=is_not_worse,
        is_better=worst_case_p_value(rows, tango_score_of_counts(counts, 0), 0) <= alpha,
        is_worse=worst_case_p_value(rows, tango_score_of_counts(counts.exchanged, 0), 0) <= alpha,
    )


def judge_candidate(
    right: PairedCounts,
    harm: PairedCounts,
    alpha: float,
    margins: Margins | None = None,
    *,
    failed: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> Finding:
    """The verdict of one look.

    In `right`, a row is fixed where only the candidate is right; in `harm`, where only the incumbent does harm.
    `failed` are conditions that no statistics weigh up and that do not hold (a pinned row came out wrong, the cost is
    over its ceiling): each makes the verdict `worse`. `problems` make the two incomparable (other rows, a golden file
    that changed meanwhile), and so does a comparison without rows.
    """
    margins = margins or Margins()
    on_right, on_harm = compare_measure(right, margins.right, alpha), compare_measure(harm, margins.harm, alpha)
    if right.rows != harm.rows:
        problems = [*problems, f"right was seen on {right.rows} rows, and harm on {harm.rows}"]
    elif not right.rows:
        problems = [*problems, "no row was compared"]
    reasons = tuple(problems or failed)
    return Finding(_verdict(on_right, on_harm, bool(problems), bool(failed)), on_right, on_harm, reasons)


def _verdict(right: Comparison, harm: Comparison, is_invalid: bool, has_failed: bool) -> Verdict:
    if is_invalid:
        return "invalid"
    if has_failed:
        return "worse"
    if right.is_not_worse and harm.is_not_worse:
        return "better" if right.is_better else "not_worse"
    return "worse" if right.is_worse or harm.is_worse else "undecided"

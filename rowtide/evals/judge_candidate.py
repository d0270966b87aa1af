"""Judges a candidate after a look: tests right and harm against their margins, and returns a verdict.

A candidate passes only if every condition holds, each tested at the look's whole level: a test that needs all of them
needs no correction (an intersection-union test). `right` alone is not enough: a version that quarantines fewer rows
gets more rows right and more rows wrong, so harm is tested too.
"""

from collections.abc import Sequence

from rowtide.evals.exact_tango import worst_case_p_value
from rowtide.evals.paired_test import PairedCounts, tango_lower_bound, tango_score_of_counts
from rowtide.evals.verdicts import Comparison, Finding, Margins, Verdict


def compare_measure(counts: PairedCounts, margin: float, alpha: float) -> Comparison:
    """Test one measure (right or harm) of both versions at one look. `margin` and `alpha` are from 0 to 1."""
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
    """Return the verdict of one look, with the comparisons it rests on.

    In `right`, a row is fixed where only the candidate is right; in `harm`, where only the incumbent does harm.
    `failed` lists conditions outside the statistics that do not hold (a pinned row came out wrong, the cost is over its
    ceiling): any makes the verdict `worse`. `problems` make the versions incomparable (other rows, a golden file that
    changed meanwhile): any makes it `invalid`, as does a comparison without rows.
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

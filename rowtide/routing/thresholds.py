"""Choose the router's thresholds: the least expected cost at which enough golden rows come out right.

Thresholds are chosen by what rows are expected to cost. What they save is then measured by what rows did cost: from
another tier, what they cost where they went that way, else what is expected of them there. Whether a golden row would
have come out right is what it did where it went that way; what nobody knows counts as wrong.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from rowtide.binomial import clopper_pearson_lower
from rowtide.routing.difficulty import GoldenEvidence, Outcome, Saving, TierFit, expected_micro

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Right = Mapping[int, bool]  # tier where an answer was accepted → whether it was right

STEPS = [step / 20 for step in range(20)] + [1.01]
FINE_STEPS = 3  # on a longer ladder all tiers share a threshold: there would be too many combinations
CONFIDENCE = 0.95
DEVIATIONS = 1.96  # either side of the mean, for 95%


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The chosen thresholds, and their expected cost and accuracy."""

    thresholds: list[float]
    golden: GoldenEvidence
    saving: Saving


def choose_thresholds(
    tier_fits: Sequence[TierFit], past: Sequence[Outcome], chances: Floats, right: Mapping[str, Right], target: float
) -> ThresholdChoice:
    """Try every combination of thresholds on past rows, whose chances (row × tier) come from models that did not learn
    from them.
    """
    chances = np.maximum.accumulate(chances, axis=1)
    costs = np.array([_costs_from(each, tier_fits, row) for each, row in zip(past, chances, strict=True)])
    tried = _tried(chances)
    golden_rows = {each.row_key: n for n, each in enumerate(past) if each.row_key in right}
    evidence = np.array(
        [[is_golden_row_right(right[key], tier_fit) for tier_fit in range(len(tier_fits))] for key in golden_rows]
    )
    places = list(golden_rows.values())
    hits = [evidence[np.arange(len(places)), starts[places]] if places else np.zeros(0, bool) for _, starts in tried]
    # The bound must hold for whichever is chosen: those that differ share the chance of a mistake among them.
    confidence = 1 - (1 - CONFIDENCE) / len({each.tobytes() for each in hits})
    counts = [int(each.sum()) for each in hits]
    eligible, verdict = _eligible(counts, len(places), target, confidence)
    expected = np.array(
        [[expected_micro(tier_fits, row, n) for n in range(len(tier_fits))] for row in chances.tolist()]
    )
    best = _cheapest(expected, costs, [starts for _, starts in tried], eligible)
    thresholds, starts = tried[best]
    bound = clopper_pearson_lower(counts[best], len(places), confidence)
    golden = GoldenEvidence(
        rows=len(places), right=counts[best], lower_bound=bound, confidence=CONFIDENCE, target=target, verdict=verdict
    )
    return ThresholdChoice(thresholds, golden, estimate_saving(costs, starts))


def is_golden_row_right(seen: Right, start: int) -> bool:
    """Return whether a golden row that starts on `start` is known to come out right.

    By the answer accepted there or above it; or, where there was none, by a right one from below.
    """
    above = [tier_fit for tier_fit in seen if tier_fit >= start]
    return seen[min(above)] if above else any(seen.values())


def estimate_saving(costs: Floats, starts: Ints) -> Saving:
    """Return the saving against starting all rows on the lowest tier, with its 95% interval."""
    lowest, here = costs[:, 0], costs[np.arange(len(costs)), starts]
    usual = max(float(lowest.mean()), 1e-9)
    share = float(here.mean()) / usual
    # The error of a ratio of two means, of which every row adds to both.
    error = float((here - share * lowest).std()) / (math.sqrt(len(costs)) * usual)
    return Saving(
        share=1 - share,
        low=1 - share - DEVIATIONS * error,
        high=1 - share + DEVIATIONS * error,
        micro_per_row=float((lowest - here).mean()),
        started_higher=float((starts > 0).mean()),
    )


def _tried(chances: Floats) -> list[tuple[list[float], Ints]]:
    """Threshold combinations that differ in where some row starts, with each row's start; first, all rows on the lowest
    tier.

    Of those that do not differ, the middle: a row like none that was seen starts as the nearest ones do.
    """
    alike: dict[bytes, list[list[float]]] = {np.zeros(len(chances), np.int64).tobytes(): []}
    for thresholds in _grid(chances.shape[1]):
        enough = np.column_stack([chances[:, :-1] >= np.array(thresholds), np.ones(len(chances), bool)])
        alike.setdefault(enough.argmax(axis=1).tobytes(), []).append(thresholds)
    tried = [(np.mean(each, axis=0).tolist(), np.frombuffer(starts, np.int64)) for starts, each in alike.items()]
    return [([0.0] * (chances.shape[1] - 1), tried[0][1]), *tried[1:]]


def _grid(tier_fits: int) -> Iterator[list[float]]:
    if tier_fits <= FINE_STEPS:
        yield from (list(each) for each in product(STEPS, repeat=tier_fits - 1))
    else:
        yield from ([step] * (tier_fits - 1) for step in STEPS)


def _costs_from(past: Outcome, tier_fits: Sequence[TierFit], chances: Floats) -> list[float]:
    return [_cost_from(past, tier_fits, chances, start) for start in range(len(tier_fits))]


def _cost_from(past: Outcome, tier_fits: Sequence[TierFit], chances: Floats, start: int) -> float:
    above = sum(cost for tier_fit, cost in past.cost_micro.items() if tier_fit >= start)
    if start in past.cost_micro:
        return above
    if past.accepted_at is not None and start > past.accepted_at:
        return tier_fits[start].accepted_micro
    if start <= past.failed_at:  # it would have failed here, though it never was here
        between = range(start, min(tier_fit for tier_fit in past.cost_micro if tier_fit >= start))
        return above + sum(tier_fits[tier_fit].failed_micro for tier_fit in between)
    return expected_micro(tier_fits, chances.tolist(), start)


def _eligible(counts: Sequence[int], rows: int, target: float, confidence: float) -> tuple[list[int], str]:
    """The combinations that the golden rows allow, and why."""
    needed = math.ceil(math.log(1 - confidence) / math.log(target))
    if rows < needed:
        words = f"{rows} in the history cannot show {target:.0%}, even if all are right; {needed} could"
        return list(range(len(counts))), f"{words}. Chosen by cost: what is accepted has passed the same checks"
    shown = [n for n, count in enumerate(counts) if clopper_pearson_lower(count, rows, confidence) >= target]
    if shown:
        return shown, f"shown: at least {target:.0%} of golden rows come out right"
    most = max(counts)
    words = f"not shown: nothing that was tried gets more than {most} of {rows} golden rows right for certain"
    return [n for n, count in enumerate(counts) if count == most], words


def _cheapest(expected: Floats, costs: Floats, starts: Sequence[Ints], eligible: Sequence[int]) -> int:
    """The cheapest combination; the first (every row on the lowest tier) unless another was certainly cheaper."""
    rows = np.arange(len(costs))
    best = min(eligible, key=lambda n: float(expected[rows, starts[n]].mean()))
    return 0 if 0 in eligible and estimate_saving(costs, starts[best]).low <= 0 else best

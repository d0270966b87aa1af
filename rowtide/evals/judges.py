"""Certify a model as a judge against people's labels, and correct its counts for its errors.

A judge that is not certified on people's labels gates nothing. A certified one still errs: what it counts is corrected
by how often it does.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from statistics import NormalDist

from rowtide.binomial import clopper_pearson_lower

LEAST_RATE = 0.80  # of true positives, and of true negatives, that a judge must be shown to have
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class JudgeCounts:
    """A judge on rows that people have labelled too. Raises ValueError for counts below 0."""

    good_passed: int
    """Rows that people call good, and so does the judge."""
    good_failed: int
    bad_passed: int
    bad_failed: int

    def __post_init__(self) -> None:
        if min(self.good_passed, self.good_failed, self.bad_passed, self.bad_failed) < 0:
            raise ValueError("counts are at least 0")

    @property
    def good(self) -> int:
        return self.good_passed + self.good_failed

    @property
    def bad(self) -> int:
        return self.bad_passed + self.bad_failed


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is proven of a judge, and whether it is certified."""

    counts: JudgeCounts
    tpr_bound: float
    """Of rows that people call good, the judge passes at least this share (one-sided); 0 without such rows."""
    tnr_bound: float
    """Of rows that people call bad, it fails at least this share."""
    is_certified: bool


@dataclass(frozen=True, slots=True)
class FieldJudge:
    """The judge of one field in an eval. It is a job of its own, whose rows are pairs of values."""

    field: str
    tier: str
    folder: str
    """Of its job."""
    asked: Mapping[str, str]
    """How the ledger knows what it was asked: asking, judging, tiers and models. Another rubric or model is another
    judge."""
    labels: Mapping[str, bool]
    """`pair_hash` → whether people call the two values the same."""
    certificate: Certificate | None = None
    """None until it was asked about the labelled pairs."""

    def certified(self, same: Mapping[str, bool]) -> "FieldJudge":
        """Return the judge with its certificate, from its verdicts by `pair_hash`. A pair without a verdict counts
        against it.
        """
        labels = [(good, same.get(pair, not good)) for pair, good in self.labels.items()]
        return replace(self, certificate=certify_judge(labels))


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """The share of good rows, as far as a judge that errs can tell. All from 0 to 1."""

    rate: float
    standard_error: float
    """0 where nothing seems to vary: then `low` and `high` say more."""
    low: float
    high: float


def certify_judge(
    labels: Iterable[tuple[bool, bool]], least: float = LEAST_RATE, confidence: float = CONFIDENCE
) -> Certificate:
    """Certify a judge from labelled rows. Each label is a pair: whether people call the row good, whether the judge
    does.

    Clopper and Pearson's bounds, one-sided, of both rates must be at least `least`. Both must hold, so neither needs a
    correction. A judge that agrees with 90 in 100 people needs about 65 rows of each class.
    """
    found = Counter((bool(good), bool(passed)) for good, passed in labels)
    counts = JudgeCounts(found[True, True], found[True, False], found[False, True], found[False, False])
    tpr = clopper_pearson_lower(counts.good_passed, counts.good, confidence)
    tnr = clopper_pearson_lower(counts.bad_failed, counts.bad, confidence)
    return Certificate(counts, tpr, tnr, is_certified=tpr >= least and tnr >= least)


def least_labels(least: float = LEAST_RATE, confidence: float = CONFIDENCE) -> int:
    """Return the fewest labels of a class that can certify a judge: of a judge that errs on none of them."""
    return math.ceil(math.log(1 - confidence) / math.log(least))


def share_kept(certificate: Certificate) -> float:
    """Return what a judge leaves of a difference between two versions at least, as a share: TPR + TNR - 1, by both
    bounds. A version that is worse by 5 points looks worse by so much of them.
    """
    return max(certificate.tpr_bound + certificate.tnr_bound - 1, 0.0)


def corrected_rate(passed: int, rows: int, counts: JudgeCounts, confidence: float = CONFIDENCE) -> CorrectedRate | None:
    """Estimate the share of good rows among `rows`, from the `passed` ones of a judge whose errors are known from
    labelled rows (`counts`), with a two-sided interval of `confidence`.

    Returns None when the judge is no better than a coin, a class has no labels, or there are no rows. The rate and its
    standard error are Rogan and Gladen's (American Journal of Epidemiology 107 (1978), 71-76), of all three shares that
    are estimated; the interval is Lang and Reiczigel's (Preventive Veterinary Medicine 113 (2014), 13-22), which holds
    where one of the three is 0 or 1.
    """
    if not rows or not counts.good or not counts.bad:
        return None
    shares = (passed, rows), (counts.good_passed, counts.good), (counts.bad_failed, counts.bad)
    plain = _rogan_gladen(*shares)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    adjusted = [(hits + plus / 2, of + plus) for (hits, of), plus in zip(shares, (z * z, 2, 2), strict=True)]
    moved = _rogan_gladen(*adjusted)
    if plain is None or moved is None:
        return None
    (_, (tpr_hits, good), (tnr_hits, bad)), (rate, error) = adjusted, moved
    shift = 2 * z * z * (rate * _variance(tpr_hits, good) - (1 - rate) * _variance(tnr_hits, bad))
    low, high = rate + shift - z * error, rate + shift + z * error
    return CorrectedRate(_share(plain[0]), plain[1], _share(low), _share(high))


def krippendorff_alpha(units: Iterable[Sequence[Hashable | None]]) -> float | None:
    """Return how far labellers agree beyond chance on nominal labels: 1 is full agreement, 0 is chance.

    A unit holds a row's labels, one from each labeller, None where one gave none. Returns None when nothing can
    disagree: fewer than two labels on every row, or one label everywhere. K. Krippendorff, Content Analysis, 3rd
    edition (2013), chapter 12: 1 - observed / expected disagreement, by the matrix of coincidences.
    """
    pairs: defaultdict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for unit in units:
        given = Counter(label for label in unit if label is not None)
        if (labels := given.total()) >= 2:
            for label, count in given.items():
                pairs[label, label] += count * (count - 1) / (labels - 1)
            for one, other in permutations(given, 2):
                pairs[one, other] += given[one] * given[other] / (labels - 1)
    totals: defaultdict[Hashable, float] = defaultdict(float)
    for (label, _), weight in pairs.items():
        totals[label] += weight
    whole = sum(totals.values())
    expected = whole**2 - sum(each**2 for each in totals.values())
    if expected <= 0:
        return None
    observed = whole - sum(weight for (one, other), weight in pairs.items() if one == other)
    return 1 - (whole - 1) * observed / expected


def _rogan_gladen(
    observed: tuple[float, float], tpr: tuple[float, float], tnr: tuple[float, float]
) -> tuple[float, float] | None:
    """The rate and its standard error, of three shares that are each (hits, of how many)."""
    better_than_coin = tpr[0] / tpr[1] + tnr[0] / tnr[1] - 1
    if better_than_coin <= 0:
        return None
    rate = (observed[0] / observed[1] + tnr[0] / tnr[1] - 1) / better_than_coin
    variance = _variance(*observed) + rate**2 * _variance(*tpr) + (1 - rate) ** 2 * _variance(*tnr)
    return rate, math.sqrt(variance) / better_than_coin


def _variance(hits: float, of: float) -> float:
    return hits / of * (1 - hits / of) / of


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)

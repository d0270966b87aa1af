"""Estimate from a fitted model (`router.json`) how difficult a row is, and so on which tier it starts.

`rowtide fit-router` writes it to `router.json` in the job's folder. It decides what a row costs, never what is
accepted. A row that a tier would answer, a higher tier is taken to answer too: so chances only grow up the ladder.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rowtide.errors import UserMistake
from rowtide.routing.features import Features, Values, Vocabulary, row_features

ROUTER_FILE = "router.json"
SPOKE = 3  # how many features are named as speaking for or against
LEAST_CONTRIBUTION = 0.1  # log-odds; what moves the chance less is not worth a word


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureWeight(Part):
    """The weight of one feature: (value - mean) / standard deviation × `weight` is added to the score."""

    mean: float
    scale: float
    weight: float


class CalibrationBin(Part):
    """Rows given about the same chance, and the share for which it came true."""

    rows: int
    chance: float
    accepted: float


class TierFit(Part):
    """The fit of one tier: the chance that it, or one below, gives an accepted answer."""

    tier: str
    rows: int
    """Rows of which that is known."""
    accepted: int
    weights: dict[str, FeatureWeight]
    """Empty where there was too little to learn from: then every row has the tier's usual chance."""
    intercept: float
    slope: float = -1
    offset: float = 0
    """Platt's map: the chance is 1 / (1 + exp(slope · score + offset))."""
    brier: float | None = None
    """Mean squared error of the chances, each given by a model that had not seen the row."""
    brier_base: float | None = None
    """The same, if every row were given the average."""
    calibration: list[CalibrationBin] = []
    accepted_micro: float
    """What a row costs here when its answer is accepted, in micro-dollars."""
    failed_micro: float
    """What it costs when it has to go on."""


class GoldenEvidence(Part):
    """What golden rows show about the thresholds."""

    rows: int
    right: int
    lower_bound: float
    """Of the share that comes out right; Clopper-Pearson, one-sided."""
    confidence: float
    target: float
    verdict: str


class Saving(Part):
    """The saving against starting every row on the lowest tier, as shares of the cost."""

    share: float
    low: float
    high: float
    micro_per_row: float
    started_higher: float
    """The share of rows that would not have started on the lowest tier."""


class Router(Part):
    """A fitted router, as kept in `router.json`."""

    version: int = 1
    api: str = ""
    """The API that its rows were answered by; rows of another start as if there were no router. Empty: any."""
    fitted_at: str
    runs: int
    rows: int
    escalated: int
    quarantined: int
    tiers: list[str]
    vocabulary: Vocabulary
    tier_fits: list[TierFit]
    thresholds: list[float]
    """For each tier but the highest, the least chance with which a row starts there."""
    golden: GoldenEvidence
    saving: Saving


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a row of an earlier run fared."""

    row_key: str
    accepted_at: int | None
    failed_at: int
    """The highest tier that could not do it; -1 when none failed."""
    cost_micro: Mapping[int, int]
    """What its turns cost on each tier it visited."""

    def would_suffice(self, tier_no: int) -> bool | None:
        """Return whether the row would have gone no higher had it started on this tier; None where that is unknown."""
        if tier_no <= self.failed_at:
            return False
        return True if self.accepted_at is not None and tier_no >= self.accepted_at else None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The tier on which a row starts, and why."""

    tier_no: int
    chances: dict[str, float]
    why: list[str]


def read_router(folder: Path) -> Router | None:
    """Return the router of the job in `folder`, or None. Raises UserMistake."""
    file = folder / ROUTER_FILE
    if not file.is_file():
        return None
    try:
        return Router.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserMistake(f"{first['msg']}; `rowtide fit-router` writes it anew", file=file, key=key) from None


def fits_ladder(router: Router | None, tiers: Sequence[str]) -> bool:
    """Return whether the router was fitted for this ladder."""
    return router is not None and router.tiers == list(tiers)


def estimate_start(router: Router, values: Values) -> Estimate:
    """Return the tier a row starts on, and the features for and against the tier below."""
    found = row_features(values, router.vocabulary)
    chances = tier_chances(router.tier_fits, found)
    tier_no = first_tier(chances, router.thresholds)
    named = {tier: round(chance, 4) for tier, chance in zip(router.tiers, chances, strict=True)}
    return Estimate(tier_no, named, explain_chance(router.tier_fits[max(0, tier_no - 1)], found))


def tier_chances(tier_fits: Sequence[TierFit], found: Features) -> list[float]:
    """Return for each tier the chance that a row which starts there goes no higher."""
    chances: list[float] = []
    for fit in tier_fits:
        chances.append(max([tier_chance(fit, found), *chances[-1:]]))
    return chances


def tier_chance(fit: TierFit, found: Features) -> float:
    """Return the chance by this tier's own fit."""
    score = fit.intercept + sum(_contributions(found, fit.weights).values())
    return 1 / (1 + math.exp(min(700.0, fit.slope * score + fit.offset)))


def first_tier(chances: Sequence[float], thresholds: Sequence[float]) -> int:
    """Return the lowest tier whose chance reaches its threshold; the highest tier when none does."""
    return next((n for n, least in enumerate(thresholds) if chances[n] >= least), len(thresholds))


def expected_micro(tier_fits: Sequence[TierFit], chances: Sequence[float], start: int) -> float:
    """Return the expected cost, in micro-dollars, of a row that starts on tier `start` and escalates as needed."""
    cost, reached = 0.0, 1.0
    for fit, ends_here in list(zip(tier_fits, chances, strict=True))[start:]:
        fails = 1 - ends_here
        # Given that the row came so far: those that the tiers below would have ended are no longer among them.
        cost += (reached - min(reached, fails)) * fit.accepted_micro + min(reached, fails) * fit.failed_micro
        reached = min(reached, fails)
    return cost


def explain_chance(fit: TierFit, found: Features) -> list[str]:
    """Return the strongest features for and against the tier, strongest first, in words."""
    contributions = sorted(_contributions(found, fit.weights).items(), key=lambda each: -abs(each[1] * fit.slope))
    return [
        f"{'for' if weight * -fit.slope > 0 else 'against'} {fit.tier}: {_in_words(name, found, fit.weights[name])}"
        for name, weight in contributions[:SPOKE]
        if abs(weight * fit.slope) >= LEAST_CONTRIBUTION
    ]


def _contributions(found: Features, weights: Mapping[str, FeatureWeight]) -> dict[str, float]:
    """What each feature adds to the score."""
    return {name: each.weight * (found.get(name, each.mean) - each.mean) / each.scale for name, each in weights.items()}


def _in_words(name: str, found: Features, usual: FeatureWeight) -> str:
    kind, column = _kind_of(name)
    here, average = found.get(name, usual.mean), usual.mean
    if kind in YES_OR_NO:
        yes, no = YES_OR_NO[kind]
        return f"{(yes if here else no).format(column)} (so are {average if here else 1 - average:.0%} of rows)"
    if kind == "length:" and not here:
        return f"{column} is empty (usually {_as_number(kind, average)} characters)"
    return f"{NUMBERS[kind].format(column)}: {_as_number(kind, here)} (usually {_as_number(kind, average)})"


def describe_feature(name: str) -> str:
    """Return a feature's name for people."""
    kind, column = _kind_of(name)
    return (YES_OR_NO[kind][0] if kind in YES_OR_NO else NUMBERS[kind]).format(column)


def _kind_of(name: str) -> tuple[str, str]:
    """`missing:city` → `missing:`, `city`; `missing` → itself, and nothing."""
    kind, colon, column = name.partition(":")
    return kind + colon, column


def _as_number(kind: str, value: float) -> str:
    if kind in ("length", "length:", "lookup_length"):
        return f"{math.expm1(value):,.0f}"
    if kind in ("lookup_common", "lookup_rarest"):
        return f"{math.exp(value):.1%}"
    return f"{value:.1f}" if kind == "lookup_words" else f"{value:.0%}"


YES_OR_NO = {
    "long": ("it is longer than most", "it is not longer than most"),
    "something_missing": ("something is missing", "nothing is missing"),
    "missing:": ("{} is missing", "{} is not missing"),
    "language:": ("its language is {}", "its language is not {}"),
    "lookup_short": ("what is looked up has four characters at most", "what is looked up has five characters or more"),
}
NUMBERS = {
    "length": "characters",
    "length:": "characters in {}",
    "missing": "columns that are empty",
    "digits": "digits among its characters",
    "odd": "odd characters",
    "not_ascii": "letters beyond ASCII",
    "not_latin": "letters that are not Latin",
    "lookup_words": "words looked up",
    "lookup_length": "characters looked up",
    "lookup_common": "rows that share a word looked up, on average",
    "lookup_rarest": "rows that share the rarest word looked up",
}

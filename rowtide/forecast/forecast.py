"""Forecast a run: rows, turns and escalations by tier, a range of cost, time by lane, and alternatives.

A tier visit costs what earlier visits of the tier cost, at today's prices, with the first message as long as those of
the sample. How many rows escalate follows from history and one weak prior. Without history, all numbers are priors.

The range: a thousand runs are simulated. Each draws every tier's escalation rate (from what history leaves open), which
rows escalate, the cost of their tier visits, the share of cache hits where it is unknown, and the length of prompts
(from the sample). Nine of ten simulated runs lie within the range. It holds for rows like the earlier ones.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rowtide.forecast.tier_visits import (
    ESCALATIONS,
    LOG_DEVIATION,
    VISITS,
    PlannedWork,
    TierVisit,
    VisitHistory,
    VisitProfile,
    visit_cost_micro,
    visit_profile_of,
)
from rowtide.lanes.lane_table import BATCH, LIVE, SEQUENTIAL, Lane
from rowtide.lanes.lanes import LaneHistory, live_duration
from rowtide.tiers.catalogue import Model
from rowtide.tiers.pricing import MICRO

RUNS_DRAWN = 1000
TAIL = 0.05  # of the drawn runs, left out at either end
WAYS: Sequence[tuple[str, bool, Lane]] = (
    ("one by one, top tier", True, SEQUENTIAL),
    ("live call pool, top tier", True, LIVE),
    ("batch, top tier", True, BATCH),
    ("live call pool, ladder", False, LIVE),
    ("batch, ladder", False, BATCH),
)


@dataclass(frozen=True, slots=True)
class TierForecast:
    """The forecast for one tier."""

    tier: str
    rows: float
    turns: float
    """Replies in a tier visit."""
    escalations: float
    """The share of tier visits that end in an escalation."""
    seen: int
    """How many tier visits this rests on; 0: priors, or what was seen on another tier."""
    input_tokens: float
    output_tokens: float
    usd: float


@dataclass(frozen=True, slots=True)
class AlternativeWay:
    """One alternative way to do the same work."""

    name: str
    is_this: bool
    usd: float
    uncached_usd: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Forecast:
    tiers: Sequence[TierForecast]
    turns: float
    low_usd: float
    likely_usd: float
    high_usd: float
    seconds: float
    """By the run's own lane."""
    ways: Sequence[AlternativeWay]


@dataclass(frozen=True, slots=True)
class VisitCost:
    """The cost of a tier visit, in micro-dollars."""

    low: float
    high: float
    deviation: float
    a_token: float
    """What a token more in each of its prompts would cost."""
    log_error: float
    """How far the belief itself may be out: the deviation of its logarithm."""


def forecast_run(
    prospect: PlannedWork, history: VisitHistory | None, pasts: LaneHistory, draw: random.Random
) -> Forecast:
    """Forecast a run. `prospect` must have rows, and a sample of them."""
    visits = history.visits if history else []
    shift = _shift(prospect, visits)
    self_checks = _self_checks(prospect, history)
    profiles = [visit_profile_of(prospect, visits, tier, prospect.lane) for tier in range(len(prospect.models))]
    tier_forecasts = _tier_forecasts(prospect, profiles, prospect.lane, shift, self_checks)
    costs = [_cost(model, each, prospect.lane, shift) for model, each in zip(prospect.models, profiles, strict=True)]
    drawn = sorted(_drawn(prospect, profiles, costs, self_checks, draw) for _ in range(RUNS_DRAWN))
    usd = sum(each.usd for each in tier_forecasts)
    return Forecast(
        tiers=tier_forecasts,
        turns=_turns(tier_forecasts),
        low_usd=min(drawn[int(TAIL * RUNS_DRAWN)] / MICRO, usd),
        likely_usd=usd,
        high_usd=max(drawn[-1 - int(TAIL * RUNS_DRAWN)] / MICRO, usd),
        seconds=_seconds(prospect, tier_forecasts, prospect.lane, pasts),
        ways=_ways(prospect, visits, shift, self_checks, pasts),
    )


def _shift(prospect: PlannedWork, visits: Sequence[TierVisit]) -> float:
    """How many tokens longer these rows' first prompts are than those of earlier rows."""
    before = [visit.first_tokens for visit in visits if visit.is_start]
    return statistics.fmean(prospect.sample_tokens) - statistics.fmean(before) if before else 0.0


def _self_checks(prospect: PlannedWork, history: VisitHistory | None) -> float:
    """The expected number of self-checks for a row."""
    if len(prospect.models) == prospect.tier_count:
        return 0.0
    seen = sum(visit.tier == prospect.tier_count for visit in history.visits) if history else 0
    return seen / history.rows if history and seen else 1.0


def _tier_forecasts(
    prospect: PlannedWork, profiles: Sequence[VisitProfile], lane: Lane, shift: float, self_checks: float
) -> list[TierForecast]:
    found: list[TierForecast] = []
    escalating = 0.0
    for tier, (model, profile) in enumerate(zip(prospect.models, profiles, strict=True)):
        is_self_check = tier == prospect.tier_count
        rows = prospect.rows * self_checks if is_self_check else prospect.starts[tier] + escalating
        escalations = (
            (ESCALATIONS + profile.escalations) / (VISITS + profile.seen) if tier < prospect.tier_count - 1 else 0.0
        )
        turns, own_shift = profile.mean(lambda visit: visit.turns), 0.0 if is_self_check else shift
        found.append(
            TierForecast(
                tier=f"{model.alias} (check)" if is_self_check else model.alias,
                rows=rows,
                turns=turns,
                escalations=escalations,
                seen=profile.seen,
                input_tokens=rows * (profile.mean(lambda visit: visit.prompt_tokens) + own_shift * turns),
                output_tokens=rows * profile.mean(lambda visit: visit.output_tokens),
                usd=rows
                * profile.mean(lambda visit, m=model, s=own_shift: visit_cost_micro(m, visit, lane, s))
                / MICRO,
            )
        )
        escalating = rows * escalations
    return found


def _cost(model: Model, profile: VisitProfile, lane: Lane, shift: float) -> VisitCost:
    low, high = (
        [visit_cost_micro(model, visit, lane, shift) for visit in visits] for visits in (profile.low, profile.high)
    )
    extra_tokens = statistics.fmean(visit_cost_micro(model, visit, lane, shift + 1) for visit in profile.low)
    mean = statistics.fmean(low)
    return VisitCost(
        mean,
        statistics.fmean(high),
        statistics.pstdev(low),
        extra_tokens - mean,
        LOG_DEVIATION * VISITS / (VISITS + profile.seen),
    )


def _drawn(
    prospect: PlannedWork,
    profiles: Sequence[VisitProfile],
    costs: Sequence[VisitCost],
    self_checks: float,
    draw: random.Random,
) -> float:
    """The cost of one simulated run, in micro-dollars."""
    total = escalating = 0.0
    misjudged, hits = draw.gauss(0, 1), draw.random()  # one error for all tiers: they are guessed alike
    extra_tokens = draw.gauss(0, statistics.pstdev(prospect.sample_tokens) / math.sqrt(len(prospect.sample_tokens)))
    for tier, (profile, cost) in enumerate(zip(profiles, costs, strict=True)):
        rows = prospect.rows * self_checks if tier == prospect.tier_count else prospect.starts[tier] + escalating
        escalating = _drawn_escalations(rows, profile, draw) if tier < prospect.tier_count - 1 else 0.0
        mean = (cost.low + hits * (cost.high - cost.low)) * math.exp(misjudged * cost.log_error)
        mean += extra_tokens * cost.a_token + draw.gauss(0, cost.deviation / math.sqrt(max(1, profile.seen)))
        total += max(0.0, rows * mean + draw.gauss(0, cost.deviation * math.sqrt(rows)))
    return total


def _drawn_escalations(rows: float, profile: VisitProfile, draw: random.Random) -> float:
    share = draw.betavariate(
        ESCALATIONS + profile.escalations, VISITS - ESCALATIONS + profile.seen - profile.escalations
    )
    return min(rows, max(0.0, draw.gauss(rows * share, math.sqrt(rows * share * (1 - share)))))


def _ways(
    prospect: PlannedWork, visits: Sequence[TierVisit], shift: float, self_checks: float, pasts: LaneHistory
) -> list[AlternativeWay]:
    """The alternatives: the same rows on the top tier alone, and up the ladder. The top tier is assumed to need what a
    row's first tier needed.

    Self-checks are counted with the ladder only.
    """
    top = replace(prospect, models=[prospect.models[prospect.tier_count - 1]], tier_count=1, starts=[prospect.rows])
    firsts = [visit._replace(tier=0, escalated=False) for visit in visits if visit.is_start]
    ways: list[AlternativeWay] = []
    for name, is_top, lane in WAYS:
        variant, seen = (top, firsts) if is_top else (prospect, visits)
        profiles = [visit_profile_of(variant, seen, tier, lane) for tier in range(len(variant.models))]
        tier_forecasts = _tier_forecasts(variant, profiles, lane, shift, self_checks)
        uncached = sum(
            each.rows
            * profile.mean(lambda visit, m=model, on=lane: visit_cost_micro(m, visit, on, shift, is_cached=False))
            for each, profile, model in zip(tier_forecasts, profiles, variant.models, strict=True)
        )
        usd, seconds = sum(each.usd for each in tier_forecasts), _seconds(variant, tier_forecasts, lane, pasts)
        ways.append(AlternativeWay(name, variant is prospect and lane == prospect.lane, usd, uncached / MICRO, seconds))
    return ways


def _seconds(prospect: PlannedWork, tier_forecasts: Sequence[TierForecast], lane: Lane, pasts: LaneHistory) -> float:
    """The expected time by a lane. In batches: as many waves as the longest way up takes turns, each a long one."""
    turns = _turns(tier_forecasts)
    if lane.in_batches:
        waves = sum(math.ceil(each.turns) for each in tier_forecasts if each.rows >= 1)
        return waves * pasts.batch_p90.total_seconds()
    if lane.in_order:
        return turns * pasts.call_seconds
    return live_duration(
        prospect.rows, prospect.concurrency, replace(pasts, turns=turns / prospect.rows)
    ).total_seconds()


def _turns(tier_forecasts: Sequence[TierForecast]) -> float:
    return sum(each.rows * each.turns for each in tier_forecasts)

"""What a run will likely take: rows, turns and climbs by rung, money as a range, time by lane, and the other ways.

A row's *stay* on a rung costs what such stays cost before, at today's prices, with its own first message as long as
those of the sample. How many climb is what history and one weak prior say together. Without history, all are priors.

The range: a thousand runs are drawn. Each draws every rung's climbs (how sure history is of the share, then the luck of
these rows), what its stays cost (how many were seen, and the luck again), how often the cache is hit where nobody knows
yet, and how long prompts are (the sample's). Nine of ten drawn runs lie within. It speaks of rows like those before.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rowtide.forecast.stays import CLIMBS, SPREAD, STAYS, History, Profile, Prospect, Stay, profile_of, stay_micro
from rowtide.job.job import Lane
from rowtide.ladder.catalogue import Model
from rowtide.ladder.pricing import MICRO
from rowtide.lanes.lanes import Pasts, live_time

RUNS_DRAWN = 1000
TAIL = 0.05  # of the drawn runs, left out at either end
WAYS: Sequence[tuple[str, bool, Lane]] = (
    ("one by one, top tier", True, "sequential"),
    ("live swarm, top tier", True, "live"),
    ("batch, top tier", True, "batch"),
    ("live swarm, ladder", False, "live"),
    ("batch, ladder", False, "batch"),
)


@dataclass(frozen=True, slots=True)
class Rung:
    """What is expected of one rung."""

    tier: str
    rows: float
    turns: float
    """Replies a stay takes."""
    climbs: float
    """The share of stays that end in a climb."""
    seen: int
    """How many stays that is read from; 0: priors, or what was seen on another rung."""
    input_tokens: float
    output_tokens: float
    usd: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do the same work."""

    name: str
    is_this: bool
    usd: float
    uncached_usd: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Forecast:
    rungs: Sequence[Rung]
    turns: float
    low_usd: float
    likely_usd: float
    high_usd: float
    seconds: float
    """By the run's own lane."""
    ways: Sequence[Way]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stay costs, in micro-dollars."""

    low: float
    high: float
    deviation: float
    a_token: float
    """What a token more in each of its prompts would cost."""
    spread: float
    """How far the belief itself may be out: the deviation of its logarithm."""


def forecast(prospect: Prospect, history: History | None, pasts: Pasts, draw: random.Random) -> Forecast:
    """Foresee a run. There must be rows, and a sample of them."""
    stays = history.stays if history else []
    shift = _shift(prospect, stays)
    looks = _looks(prospect, history)
    profiles = [profile_of(prospect, stays, tier, prospect.lane) for tier in range(len(prospect.models))]
    rungs = _rungs(prospect, profiles, prospect.lane, shift, looks)
    costs = [_cost(model, each, prospect.lane, shift) for model, each in zip(prospect.models, profiles, strict=True)]
    drawn = sorted(_drawn(prospect, profiles, costs, looks, draw) for _ in range(RUNS_DRAWN))
    usd = sum(rung.usd for rung in rungs)
    return Forecast(
        rungs=rungs,
        turns=_turns(rungs),
        low_usd=min(drawn[int(TAIL * RUNS_DRAWN)] / MICRO, usd),
        likely_usd=usd,
        high_usd=max(drawn[-1 - int(TAIL * RUNS_DRAWN)] / MICRO, usd),
        seconds=_seconds(prospect, rungs, prospect.lane, pasts),
        ways=_ways(prospect, stays, shift, looks, pasts),
    )


def _shift(prospect: Prospect, stays: Sequence[Stay]) -> float:
    """How much longer these rows' first prompts are than those of the rows before."""
    before = [stay.first_tokens for stay in stays if stay.is_start]
    return statistics.fmean(prospect.sample_tokens) - statistics.fmean(before) if before else 0.0


def _looks(prospect: Prospect, history: History | None) -> float:
    """How many second-look stays a row has."""
    if len(prospect.models) == prospect.rungs:
        return 0.0
    seen = sum(stay.tier == prospect.rungs for stay in history.stays) if history else 0
    return seen / history.rows if history and seen else 1.0


def _rungs(prospect: Prospect, profiles: Sequence[Profile], lane: Lane, shift: float, looks: float) -> list[Rung]:
    found: list[Rung] = []
    climbing = 0.0
    for tier, (model, profile) in enumerate(zip(prospect.models, profiles, strict=True)):
        is_look = tier == prospect.rungs
        rows = prospect.rows * looks if is_look else prospect.starts[tier] + climbing
        climbs = (CLIMBS + profile.climbs) / (STAYS + profile.seen) if tier < prospect.rungs - 1 else 0.0
        turns, own_shift = profile.mean(lambda stay: stay.turns), 0.0 if is_look else shift
        found.append(
            Rung(
                tier=f"{model.alias} (check)" if is_look else model.alias,
                rows=rows,
                turns=turns,
                climbs=climbs,
                seen=profile.seen,
                input_tokens=rows * (profile.mean(lambda stay: stay.prompt_tokens) + own_shift * turns),
                output_tokens=rows * profile.mean(lambda stay: stay.output_tokens),
                usd=rows * profile.mean(lambda stay, m=model, s=own_shift: stay_micro(m, stay, lane, s)) / MICRO,
            )
        )
        climbing = rows * climbs
    return found


def _cost(model: Model, profile: Profile, lane: Lane, shift: float) -> Cost:
    low, high = ([stay_micro(model, stay, lane, shift) for stay in stays] for stays in (profile.low, profile.high))
    longer = statistics.fmean(stay_micro(model, stay, lane, shift + 1) for stay in profile.low)
    mean = statistics.fmean(low)
    return Cost(
        mean, statistics.fmean(high), statistics.pstdev(low), longer - mean, SPREAD * STAYS / (STAYS + profile.seen)
    )


def _drawn(
    prospect: Prospect, profiles: Sequence[Profile], costs: Sequence[Cost], looks: float, draw: random.Random
) -> float:
    """What one drawn run costs, in micro-dollars."""
    total = climbing = 0.0
    misjudged, hits = draw.gauss(0, 1), draw.random()  # one error for all rungs: they are guessed alike
    longer = draw.gauss(0, statistics.pstdev(prospect.sample_tokens) / math.sqrt(len(prospect.sample_tokens)))
    for tier, (profile, cost) in enumerate(zip(profiles, costs, strict=True)):
        rows = prospect.rows * looks if tier == prospect.rungs else prospect.starts[tier] + climbing
        climbing = _drawn_climbs(rows, profile, draw) if tier < prospect.rungs - 1 else 0.0
        mean = (cost.low + hits * (cost.high - cost.low)) * math.exp(misjudged * cost.spread)
        mean += longer * cost.a_token + draw.gauss(0, cost.deviation / math.sqrt(max(1, profile.seen)))
        total += max(0.0, rows * mean + draw.gauss(0, cost.deviation * math.sqrt(rows)))
    return total


def _drawn_climbs(rows: float, profile: Profile, draw: random.Random) -> float:
    share = draw.betavariate(CLIMBS + profile.climbs, STAYS - CLIMBS + profile.seen - profile.climbs)
    return min(rows, max(0.0, draw.gauss(rows * share, math.sqrt(rows * share * (1 - share)))))


def _ways(prospect: Prospect, stays: Sequence[Stay], shift: float, looks: float, pasts: Pasts) -> list[Way]:
    """The same rows on the top rung alone, and up the ladder. The top one is taken to need what a row's first rung did.

    Second looks are counted with the ladder only.
    """
    top = replace(prospect, models=[prospect.models[prospect.rungs - 1]], rungs=1, starts=[prospect.rows])
    firsts = [stay._replace(tier=0, climbed=False) for stay in stays if stay.is_start]
    ways: list[Way] = []
    for name, is_top, lane in WAYS:
        work, seen = (top, firsts) if is_top else (prospect, stays)
        profiles = [profile_of(work, seen, tier, lane) for tier in range(len(work.models))]
        rungs = _rungs(work, profiles, lane, shift, looks)
        uncached = sum(
            rung.rows * profile.mean(lambda stay, m=model, on=lane: stay_micro(m, stay, on, shift, is_cached=False))
            for rung, profile, model in zip(rungs, profiles, work.models, strict=True)
        )
        usd, seconds = sum(rung.usd for rung in rungs), _seconds(work, rungs, lane, pasts)
        ways.append(Way(name, work is prospect and lane == prospect.lane, usd, uncached / MICRO, seconds))
    return ways


def _seconds(prospect: Prospect, rungs: Sequence[Rung], lane: Lane, pasts: Pasts) -> float:
    """How long it takes by a lane: in batches, as many waves as the longest way up takes turns, each a long one."""
    turns = _turns(rungs)
    if lane == "batch":
        waves = sum(math.ceil(rung.turns) for rung in rungs if rung.rows >= 1)
        return waves * pasts.batch_p90.total_seconds()
    if lane == "sequential":
        return turns * pasts.call_seconds
    return live_time(prospect.rows, prospect.concurrency, replace(pasts, turns=turns / prospect.rows)).total_seconds()


def _turns(rungs: Sequence[Rung]) -> float:
    return sum(rung.rows * rung.turns for rung in rungs)

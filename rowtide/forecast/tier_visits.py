"""Tier visits for a forecast: their turns, tokens and cost, from history or from stated guesses.

A tier visit is one row's conversation on one tier, from its first request there to its answer, escalation or end.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rowtide.lanes.lane_table import Lane
from rowtide.tiers.catalogue import Model

# What is taken to be so until history says otherwise.
TURNS_PLAIN = 1.1  # an answer, and now and then a correction
TURNS_WITH_TOOLS = 3.0  # two trips to tools and an answer: what the companies job takes
ADDED_TOKENS = 300.0  # what a turn adds to the next one's prompt: a reply and a tool's few lines
OUTPUT_TOKENS = 200.0  # a reply: a small JSON object or a tool call; a model that thinks much writes more
ESCALATIONS, VISITS = 0.5, 5  # one row in ten escalates, believed as firmly as five rows seen
LOG_DEVIATION = math.log(1.5) / 1.645  # turns and tokens are within 1.5 times either way, nine times of ten
SELF_CHECK_TOKENS = (500.0, 100.0)  # a self-check: a rubric, the row, its answer; a verdict


class TierVisit(NamedTuple):
    """One row's replies on one tier, and their tokens."""

    tier: int
    turns: float
    first_tokens: float
    """The whole prompt of its first reply."""
    prompt_tokens: float
    """Of all its replies, cached or not."""
    written_tokens: float
    """Of those, what was written to the cache."""
    read_tokens: float
    """Of those, what was read from the cache."""
    output_tokens: float
    is_start: bool = True
    """Whether its row began here."""
    escalated: bool = False


@dataclass(frozen=True, slots=True)
class VisitHistory:
    """The tier visits of settled rows in the job's earlier runs."""

    rows: int
    runs: int
    is_of_this_version: bool
    visits: Sequence[TierVisit]
    """Self-checks count as visits of the tier above the top one."""


@dataclass(frozen=True, slots=True)
class PlannedWork:
    """The work to be forecast: rows, tiers, lane and a sample of prompts."""

    models: Sequence[Model]
    """One for each tier; and the one that takes the self-check, if there is one."""
    tier_count: int
    starts: Sequence[int]
    """How many rows start on each tier."""
    sample_tokens: Sequence[int]
    """How long the first requests of sampled rows are."""
    prefix_tokens: int
    """How much of them can be cached."""
    has_tools: bool
    lane: Lane
    concurrency: int

    @property
    def rows(self) -> int:
        return sum(self.starts)


@dataclass(frozen=True, slots=True)
class VisitProfile:
    """What visits of a tier are like. Two lists are two beliefs: the truth lies between their means."""

    low: Sequence[TierVisit]
    high: Sequence[TierVisit]
    escalations: int
    seen: int

    def mean(self, value: Callable[[TierVisit], float]) -> float:
        """Return the expected `value` of a visit: the middle between the lists' means."""
        return (_mean(self.low, value) + _mean(self.high, value)) / 2


def visit_cost_micro(model: Model, visit: TierVisit, lane: Lane, shift: float = 0, *, is_cached: bool = True) -> float:
    """Return the cost of a tier visit in micro-dollars, if each of its prompts were `shift` tokens longer."""
    prompt = max(0.0, visit.prompt_tokens + shift * visit.turns)
    written, read = (visit.written_tokens, visit.read_tokens) if is_cached else (0.0, 0.0)
    price = model.price_at(round(prompt / visit.turns))
    parts = (
        (max(0.0, prompt - written - read), price.input),
        (written, price.cache_write_1h),
        (read, price.cache_read),
        (visit.output_tokens, price.output),
    )
    return sum(tokens * float(each) for tokens, each in parts) * float(lane.price_share(model.batch_share))


def visit_profile_of(prospect: PlannedWork, visits: Sequence[TierVisit], tier: int, lane: Lane) -> VisitProfile:
    """Return the visits seen on the tier; else those of the nearest tier, the lower first; else the stated guesses."""
    if own := [visit for visit in visits if visit.tier == tier]:
        return VisitProfile(own, own, sum(visit.escalated for visit in own), len(own))
    others = {visit.tier for visit in visits if visit.tier < prospect.tier_count}
    if others and tier < prospect.tier_count:
        nearest = min(others, key=lambda other: (abs(other - tier), other))
        borrowed = [visit for visit in visits if visit.tier == nearest]
        return VisitProfile(borrowed, borrowed, 0, 0)
    low, high = lane.cache_hits
    guess = _guess if tier < prospect.tier_count else _guess_of_a_self_check
    return VisitProfile([guess(prospect, tier, low)], [guess(prospect, tier, high)], 0, 0)


def _guess(prospect: PlannedWork, tier: int, hits: float) -> TierVisit:
    turns, first = TURNS_WITH_TOOLS if prospect.has_tools else TURNS_PLAIN, statistics.fmean(prospect.sample_tokens)
    cached = turns * prospect.prefix_tokens
    prompt = turns * first + ADDED_TOKENS * turns * (turns - 1) / 2
    return TierVisit(tier, turns, first, prompt, cached * (1 - hits), cached * hits, turns * OUTPUT_TOKENS)


def _guess_of_a_self_check(prospect: PlannedWork, tier: int, hits: float) -> TierVisit:
    row = max(0.0, statistics.fmean(prospect.sample_tokens) - prospect.prefix_tokens)
    prompt, output = SELF_CHECK_TOKENS[0] + row, SELF_CHECK_TOKENS[1]
    return TierVisit(tier, 1, prompt, prompt, 0, 0, output, is_start=False)


def _mean(visits: Sequence[TierVisit], value: Callable[[TierVisit], float]) -> float:
    return statistics.fmean(map(value, visits))

"""Composes a run's summary: its figures, with the warnings and sentences that follow from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rowtide.agent.requests import cache_warnings, cacheable_tokens
from rowtide.gates.approvals import GateApproval, WaitingRows
from rowtide.report.approval_text import approval_consequences
from rowtide.tiers.escalation import VisitCounts, skipped_tier_warnings

ENOUGH_TURNS = 100  # after so many turns without one hit, the cache is not merely cold


@dataclass(frozen=True)
class RunFigures:
    """What the ledger knows of a run, in figures."""

    numbers: Mapping[str, Any]
    """The summary but for its warnings and sentences."""
    tiers: Sequence[str]
    """The names of the ladder's tiers, lowest first, then the self-check's if there is one."""
    tier_visits: Mapping[int, VisitCounts]
    """Tier → how its rows have fared."""
    sent_prefixes: Sequence[bytes]
    """The prefixes of the requests that were sent."""
    gate_approvals: Sequence[GateApproval]
    """The gates that await approval."""
    rows_at_gates: WaitingRows
    cache_minimums: Mapping[str, int]
    """Tier → the fewest tokens that its model can cache."""


def run_summary(figures: RunFigures) -> dict[str, Any]:
    """Return the run's summary: rows by outcome, work done, money in US dollars, warnings, and what holds the run."""
    cache, asked = figures.numbers["cache"], figures.gate_approvals
    return {
        **figures.numbers,
        "approval_text": approval_consequences(asked, figures.rows_at_gates) if asked else None,
        "skips": skipped_tier_warnings(figures.tiers, figures.tier_visits),
        "cache": {**cache, "warnings": _cache_warnings(figures)},
    }


def _cache_warnings(figures: RunFigures) -> list[str]:
    """Return warnings when too little is read from the cache."""
    turns = figures.numbers["turns"]
    if not turns:
        return []
    warnings = cache_warnings([cacheable_tokens(each) for each in figures.sent_prefixes], figures.cache_minimums)
    if turns > ENOUGH_TURNS and not figures.numbers["cache"]["read_tokens"] and not warnings:
        return [f"nothing of what {turns:,} turns read came from the cache: all was paid for in full"]
    return warnings

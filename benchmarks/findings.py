"""What the figures say about what is promised: slopes, ratios, and the targets of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.cases import PEERS, size

Figures = Mapping[str, Mapping[str, Any]]
Of = Callable[[Mapping[str, Any]], float]

OURS = {"one-turn": (10_000, 100_000), "one-trip": (1_000, 10_000)}
"""The two sizes of ours that other packages are compared with: those of the short selection."""


@dataclass(frozen=True)
class Finding:
    """One figure, and the most it may be."""

    name: str
    what: str
    value: float
    unit: str
    most: float | None = None
    note: str = ""


def findings(figures: Figures) -> list[Finding]:
    """All that can be said of what was measured."""
    found = [*_one_turn(figures), *_trips(figures), *_a_million(figures), *_workers(figures), *_others(figures)]
    return [each for each in found if each]


def slope(small: Mapping[str, Any], large: Mapping[str, Any], of: Of = lambda one: one["cpu_seconds"]) -> float:
    """Milliseconds one more row takes: of client CPU, or of what is asked for."""
    return (of(large) - of(small)) / (large["rows"] - small["rows"]) * 1000


def per_row(figures: Figures, family: str, small: int, large: int) -> float | None:
    """A row's CPU in milliseconds, if both sizes were measured."""
    names = [f"{family}-{size(rows)}" for rows in (small, large)]
    if any("cpu_seconds" not in figures.get(name, {}) for name in names):
        return None
    return slope(*(figures[name] for name in names))


def _one_turn(figures: Figures) -> list[Finding | None]:
    ours = per_row(figures, "one-turn", 10_000, 100_000)
    floor, loop = (per_row(figures, family, 20_000, 100_000) for family in ("floor", "sdk-loop"))
    return [
        _said("cpu_ms_per_row_one_turn", "client CPU a row, one turn", ours, "ms", 0.15, "10,000 to 100,000 rows"),
        _said("floor_cpu_ms_per_row", "the floor, hand-written", floor, "ms"),
        _said("ratio_to_floor", "one turn ÷ the floor", _ratio(ours, floor), "×", 3),
        _said("sdk_loop_cpu_ms_per_row", "the loop of the vendor's documents", loop, "ms"),
        _said("ratio_to_sdk_loop", "one turn ÷ that loop", _ratio(ours, loop), "×"),
    ]


def _trips(figures: Figures) -> list[Finding | None]:
    one = per_row(figures, "one-trip", 1_000, 10_000)
    each, three = per_row(figures, "two-turns", 600, 6_000), per_row(figures, "three-trips", 1_000, 5_000)
    ours, call = None, None
    if three is not None:
        few, many = (figures[f"three-trips-{each}"] for each in ("1k", "5k"))
        ours = slope(few, many, lambda one: one["cpu_seconds"] - one["mcp_seconds"])
        call = many["mcp_seconds"] / (many["tool_calls"] - many["tools_remembered"]) * 1000
    batches = figures.get("two-turns-6k", {}).get("batches")
    whole = figures.get("killed-200k", figures.get("killed-50k", {}))
    again = whole["cpu_seconds"] / whole["whole"]["cpu_seconds"] if "whole" in whole else None
    return [
        _said("cpu_ms_per_row_one_trip", "client CPU a row, one tool trip, memoised", one, "ms", 0.4),
        _said("cpu_ms_per_row_two_turns", "client CPU a row, one tool trip, each another", each, "ms"),
        _said("batches_two_turns", "batches of 6,000 rows of two turns", batches, "", 2),
        _said("cpu_ms_per_row_three_trips", "client CPU a row, three tool trips", three, "ms"),
        _said("cpu_ms_per_row_three_trips_outside_mcp", "  of it outside the MCP client", ours, "ms", 0.5),
        _said("cpu_ms_per_mcp_call", "one MCP call", call, "ms"),
        _said("resume_ratio", "resumed after a kill at 90%, ÷ the whole, CPU", again, "×", 0.15),
    ]


def _a_million(figures: Figures) -> list[Finding | None]:
    small, middle, large = (figures.get(f"one-turn-{each}", {}) for each in ("10k", "100k", "1m"))
    cpu = per_row(figures, "one-turn", 100_000, 1_000_000)
    peak, less = large.get("peak_mb"), middle.get("peak_mb")
    if peak is None:
        grown = _ratio(less, small.get("peak_mb"))
        return [_said("peak_ratio_100k_to_10k", "peak memory, 100,000 ÷ 10,000 rows", grown, "×", 1.3)]
    each = _ratio(_wall_a_row(large), _wall_a_row(middle))
    return [
        _said("cpu_ms_per_row_1m", "client CPU a row, 100,000 to 1,000,000", cpu, "ms", 0.15),
        _said("time_ratio_1m_to_100k", "time a row, 1,000,000 ÷ 100,000 rows", each, "×", 1.1),
        _said("peak_mb_1m", "peak memory, 1,000,000 rows", peak, "MB", 500),
        _said("peak_ratio_1m_to_100k", "peak memory, 1,000,000 ÷ 100,000 rows", _ratio(peak, less), "×", 1.2),
    ]


def _workers(figures: Figures) -> list[Finding | None]:
    found: list[Finding | None] = []
    for rows in (20_000, 100_000):
        alone = figures.get(f"workers-1-{size(rows)}", {}).get("wall_seconds")
        for workers in (2, 4):
            together = figures.get(f"workers-{workers}-{size(rows)}", {}).get("wall_seconds")
            what = f"{workers} workers on PostgreSQL, {rows:,} rows, speed-up"
            found.append(_said(f"speed_up_{workers}_workers_{size(rows)}", what, _ratio(alone, together), "×"))
    return found


def _others(figures: Figures) -> list[Finding | None]:
    found: list[Finding | None] = []
    for work, sizes in OURS.items():
        measured = [per_row(figures, f"{peer}-{work}", *works[work]) for peer, works in PEERS.items() if work in works]
        best = min((each for each in measured if each is not None), default=None)
        ratio = _ratio(best, per_row(figures, work, *sizes))
        found.append(_said(f"best_other_to_ours_{work}", f"{work}: the cheapest other package ÷ ours", ratio, "×"))
    return found


def _wall_a_row(found: Mapping[str, Any]) -> float | None:
    return found["wall_seconds"] / found["rows"] if "wall_seconds" in found else None


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _said(
    name: str, what: str, value: float | None, unit: str, most: float | None = None, note: str = ""
) -> Finding | None:
    """A finding, where there is something to say."""
    return None if value is None else Finding(name, what, value, unit, most, note)

"""Measure a job's objectives (SLOs): target, actual value, and the error budget left.

An error budget is what may go wrong without the objective being missed: with a coverage of 0.99 over 1,000 rows, ten
rows. A budget that is overdrawn is a breach.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rowtide.job.job_spec import SloSpec
from rowtide.text_format import format_age
from rowtide.tiers.pricing import MICRO


@dataclass(frozen=True, slots=True)
class SloMeasurements:
    """The measured values of a job's runs within a window."""

    covered: int
    """Rows with a verified answer in the sink."""
    settled: int
    """Rows that need nothing more, however they ended."""
    accepted: int
    """Rows whose answer was accepted and is loaded."""
    judged: int
    """Rows that a model was asked about, accepted or quarantined."""
    cost_micro: int
    oldest_seconds: float
    """How long the oldest row waits that is not settled; 0 when none does."""


@dataclass(frozen=True, slots=True)
class ObjectiveStatus:
    """The status of one objective."""

    objective: str
    target: float
    was: float | None
    """None: nothing was there to be measured."""
    budget_left: float
    """Of the error budget: 1 when nothing was spent, 0 when all was, less when it is overdrawn."""

    @property
    def is_breached(self) -> bool:
        return self.budget_left < 0


def objective_statuses(spec: SloSpec, figures: SloMeasurements) -> list[ObjectiveStatus]:
    """Return the status of every objective of a job, in the order of its keys."""
    promised = [(name, getattr(spec, name)) for name in MEASURES]
    return [
        ObjectiveStatus(name, target, *MEASURES[name](target, figures))
        for name, target in promised
        if target is not None
    ]


def objectives_as_json(
    spec: SloSpec, found: Sequence[ObjectiveStatus], since: Mapping[str, datetime]
) -> list[dict[str, object]]:
    """Return the statuses as JSON values."""
    return [
        {
            "objective": each.objective,
            "target": each.target,
            "was": each.was,
            "budget_left": round(each.budget_left, 6),
            "breached": each.is_breached,
            "breached_since": since[each.objective].isoformat() if each.objective in since else None,
            "window_days": spec.window_days,
        }
        for each in found
    ]


def objectives_as_table(
    found: Sequence[ObjectiveStatus], since: Mapping[str, datetime], now: datetime
) -> list[list[str]]:
    """Return the statuses as table rows: objective, target, actual, budget left, whether breached and for how long."""
    rows: list[list[str]] = []
    for each in found:
        begun = f"for {format_age(now - since[each.objective])}" if each.objective in since else "now"
        breached = begun if each.is_breached else "no"
        sign = "≥" if each.objective in SHARES else "≤"
        target = f"{sign} {_figure(each.objective, each.target)}"
        was = "nothing to measure" if each.was is None else _figure(each.objective, each.was)
        rows.append([each.objective, target, was, f"{each.budget_left:.0%}", breached])
    return rows


HEADINGS = ["objective", "promised", "was", "error budget left", "breached"]
SHARES = ("coverage", "accepted_share")


def _figure(objective: str, value: float) -> str:
    if objective in SHARES:
        return f"{value:.2%}"
    return f"${value:.6f}" if objective == "cost_per_accepted_row" else f"{value:,.0f} s"


def _share(target: float, good: int, total: int) -> tuple[float | None, float]:
    """The actual share, and the error budget left: (1 - target) of all rows may be bad."""
    return (good / total, 1 - (total - good) / ((1 - target) * total)) if total else (None, 1.0)


def _cost(target: float, figures: SloMeasurements) -> tuple[float | None, float]:
    """The actual cost per accepted row, and the budget left, which is the target for all accepted rows together.
    Without accepted rows, more spent than one row's target overdraws it.
    """
    spent = figures.cost_micro / MICRO
    if not figures.accepted:
        return None, -1.0 if spent > target else 1.0
    return spent / figures.accepted, 1 - spent / (target * figures.accepted)


def _age(target: float, figures: SloMeasurements) -> tuple[float | None, float]:
    return figures.oldest_seconds, 1 - figures.oldest_seconds / target


MEASURES: dict[str, Callable[[float, SloMeasurements], tuple[float | None, float]]] = {
    "coverage": lambda target, figures: _share(target, figures.covered, figures.settled),
    "accepted_share": lambda target, figures: _share(target, figures.accepted, figures.judged),
    "cost_per_accepted_row": _cost,
    "oldest_waiting_seconds": _age,
}

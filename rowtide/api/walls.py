"""What may yet be spent: by a run, and by a job in a day. What is in flight counts at its worst case."""

from dataclasses import dataclass
from datetime import UTC, datetime

from rowtide.ladder.pricing import MICRO
from rowtide.ledger import ledger_batches
from rowtide.work import Work


@dataclass(frozen=True, slots=True)
class Walled:
    """Rows are ready, but the worst case of the next one does not fit under a budget."""

    next_micro: int


def left_micro(work: Work, *, now: datetime) -> int | None:
    """What the next requests may cost at worst, in micro-dollars; None when there is no wall."""
    return min((left for left in (_of_run(work), _of_day(work, now)) if left is not None), default=None)


def wall_in_the_way(work: Work, next_micro: int, *, now: datetime) -> str:
    """Which budget a request of that worst case would cross: the run's, or the job's for today."""
    left = _of_run(work)
    return "budget" if left is not None and next_micro > left else "day_budget"


def _of_run(work: Work) -> int | None:
    if work.run.budget_micro is None:
        return None
    with work.ledger.view() as tx:
        spent = ledger_batches.spent_micro(tx, work.run) + ledger_batches.reserved_micro(tx, work.run)
    return work.run.budget_micro - spent


def _of_day(work: Work, now: datetime) -> int | None:
    budget = work.job.spec.limits.day_usd
    if budget is None:
        return None
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with work.ledger.view() as tx:
        return round(budget * MICRO) - ledger_batches.since_micro(tx, work.run, midnight)

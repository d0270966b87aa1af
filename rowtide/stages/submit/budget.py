"""What may yet be spent: by a run, and by a job in a day. What is in flight counts at its worst case."""

from dataclasses import dataclass
from datetime import datetime

from rowtide.ledger import batches as ledger_batches
from rowtide.stages.run_context import RunContext


@dataclass(frozen=True, slots=True)
class BudgetExhausted:
    """Rows are ready, but the worst case of the next one does not fit under a budget."""

    next_micro: int


def left_to_spend_micro(context: RunContext, *, now: datetime) -> int | None:
    """What the next requests may cost at worst, in micro-dollars, as it stands; None when there is no wall."""
    with context.ledger.view() as tx:
        return ledger_batches.left_to_spend_micro(tx, context.run, context.job.spec.limits.day_usd, now=now)


def exceeded_budget(context: RunContext, next_micro: int) -> str:
    """Which budget a request of that worst case would cross: the run's, or the job's for today."""
    with context.ledger.view() as tx:
        left = ledger_batches.left_of_run_budget_micro(tx, context.run)
    return "budget" if left is not None and next_micro > left else "day_budget"

"""Computes what a run, and a job in a day, may still spend. Requests in flight count at their worst case."""

from dataclasses import dataclass
from datetime import datetime

from rowtide.ledger import batches as ledger_batches
from rowtide.stages.run_context import RunContext


@dataclass(frozen=True, slots=True)
class BudgetExhausted:
    """Rows are ready, but the next one's worst case, in micro-dollars, does not fit a budget."""

    next_micro: int


def left_to_spend_micro(context: RunContext, *, now: datetime) -> int | None:
    """Return what the next requests may cost at worst, in micro-dollars; None without a budget limit."""
    with context.ledger.view() as tx:
        return ledger_batches.left_to_spend_micro(tx, context.run, context.job.spec.limits.day_usd, now=now)


def exceeded_budget(context: RunContext, next_micro: int) -> str:
    """Return which budget a request of that worst case would exceed: the run's, or the job's for today."""
    with context.ledger.view() as tx:
        left = ledger_batches.left_of_run_budget_micro(tx, context.run)
    return "budget" if left is not None and next_micro > left else "day_budget"

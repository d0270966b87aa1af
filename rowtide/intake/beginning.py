"""The beginning of a run, or of another life of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rowtide.ladder.pricing import MICRO
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import ledger_prefixes
from rowtide.ledger.ledger import Ledger, Run
from rowtide.work import Plan


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run was asked to be; what is None is as the job says."""

    run_id: str
    source: str | None
    row_limit: int | None
    lane: str
    budget_usd: float | None
    finish_within_minutes: float | None


def go_on(ledger: Ledger, run_id: str, budget_usd: float | None) -> Run | None:
    """The run, if there is one. Whatever stopped it before, it goes on now; with more money, if it is given any."""
    with ledger.page() as tx:
        if not ledgers.has_run(tx, run_id):
            return None
        ledgers.go_on(tx, run_id, _micro(budget_usd))
        return ledgers.find_run(tx, run_id)


def begin(ledger: Ledger, plan: Plan, asked: Asked, *, now: datetime) -> Run:
    """Record a run as planned, or find it. A deadline counts from now."""
    spec = plan.job.spec
    within = asked.finish_within_minutes or spec.finish_within_minutes
    values = {
        **plan.record,
        "run_id": asked.run_id,
        "source_path": str(Path(asked.source).resolve()) if asked.source else None,
        "row_limit": asked.row_limit,
        "lane": asked.lane,
        "budget_micro": _micro(spec.limits.budget_usd if asked.budget_usd is None else asked.budget_usd),
        "finish_by": None if within is None else ledgers.timestamp(now + timedelta(minutes=within)),
    }
    with ledger.page() as tx:
        run = ledgers.begin_run(tx, values, now=now)
        ledger_prefixes.begin(tx, run, plan.skills)
        return run


def _micro(usd: float | None) -> int | None:
    return None if usd is None else round(usd * MICRO)

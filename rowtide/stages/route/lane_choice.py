"""Choosing the lane of a run's rows from what the ledger knows; and noticing that batches would be late."""

from datetime import datetime

from rowtide.agent.states import RowState
from rowtide.lanes.lane_table import BATCH, LANES, LIVE, Lane
from rowtide.lanes.lanes import Ahead, choose, is_tail, last_moment, must_hurry
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import lanes as ledger_lanes
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import moment
from rowtide.stages.run_context import RunContext
from rowtide.stages.submit.budget import left_micro
from rowtide.tiers.pricing import MICRO


def choose_lane(context: RunContext, *, now: datetime) -> Lane:
    """Choose the run's lane, once its rows are in, and write it down with the reason. What was chosen once stays."""
    spec, run = context.job.spec, context.run
    if run.chosen_lane is not None:
        return LANES[run.chosen_lane]
    with context.ledger.view() as tx:
        rows = ledger_rows.counts(tx, run)[RowState.READY]
        pasts = ledger_lanes.pasts(tx, run.job, run.api)
    ahead = Ahead(
        rows=rows,
        has_after=spec.after is not None,
        asked=_asked(context),
        concurrency=spec.live.concurrency,
        left_usd=None if (left := left_micro(context, now=now)) is None else left / MICRO,
        batch_share=float(context.top.batch_share),
        finish_by=moment(run.finish_by) if run.finish_by else None,
    )
    choice = choose(ahead, pasts, now)
    with context.ledger.page() as tx:
        ledger_lanes.record_choice(tx, run, choice)
    return choice.lane


def lane_now(context: RunContext, *, now: datetime) -> Lane:
    """The lane of the rows that are ready now: the run's; or live, where a batch would be late or is not worth it."""
    chosen = LANES[context.run.chosen_lane] if context.run.chosen_lane else BATCH
    if not chosen.in_batches or _asked(context) != "auto":
        return chosen
    live, by = context.job.spec.live, context.run.finish_by
    with context.ledger.view() as tx:
        counts = ledger_rows.counts(tx, context.run)
        pasts = ledger_lanes.pasts(tx, context.run.job, context.run.api) if by else None
    ready, moving = counts[RowState.READY], counts[RowState.IN_FLIGHT] + counts[RowState.REPLIED]
    if pasts and by and must_hurry(ready + moving, live.concurrency, pasts, now, moment(by)):
        return LIVE
    return LIVE if is_tail(ready, moving, sum(counts.values()), live.tail_rows) else chosen


def is_overdue(context: RunContext, *, now: datetime) -> bool:
    """Whether rows that wait in batches must go live at once to be done by the deadline."""
    if not context.run.finish_by or _asked(context) != "auto":
        return False
    with context.ledger.view() as tx:
        waiting = sum(batch.rows for batch in ledger_batches.batches_in(tx, context.run, ["open"]))
        pasts = ledger_lanes.pasts(tx, context.run.job, context.run.api)
    return waiting > 0 and now >= last_moment(
        waiting, context.job.spec.live.concurrency, pasts, moment(context.run.finish_by)
    )


def _asked(context: RunContext) -> str:
    """What the command asked for; else what the job says."""
    return context.run.lane if context.run.lane != "auto" else context.job.spec.lane

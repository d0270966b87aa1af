"""Chooses the lane of a run's rows, and moves rows to live calls when batches would be late."""

from datetime import datetime

from rowtide.agent.states import RowState
from rowtide.lanes.lane_table import BATCH, LANES, LIVE, Lane
from rowtide.lanes.lanes import WorkToDo, choose_lane, is_tail_of_run, latest_live_start, would_batch_be_late
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import live_calls as ledger_live_calls
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import from_timestamp
from rowtide.stages.run_context import RunContext
from rowtide.stages.submit.budget import left_to_spend_micro
from rowtide.tiers.pricing import MICRO


def choose_run_lane(context: RunContext, *, now: datetime) -> Lane:
    """Choose the run's lane once its rows are in, and record it with the reason. The first choice is kept."""
    spec, run = context.job.spec, context.run
    if run.chosen_lane is not None:
        return LANES[run.chosen_lane]
    with context.ledger.view() as tx:
        rows = ledger_rows.count_by_state(tx, run)[RowState.READY]
        pasts = ledger_live_calls.lane_history(tx, run.job, run.api)
    work = WorkToDo(
        rows=rows,
        has_after=spec.after is not None,
        asked=_asked(context),
        concurrency=spec.live.concurrency,
        left_usd=None if (left := left_to_spend_micro(context, now=now)) is None else left / MICRO,
        batch_share=float(context.top.batch_share),
        finish_by=from_timestamp(run.finish_by) if run.finish_by else None,
    )
    choice = choose_lane(work, pasts, now)
    with context.ledger.page() as tx:
        ledger_live_calls.record_lane_choice(tx, run, choice)
    return choice.lane


def lane_of_ready_rows(context: RunContext, *, now: datetime) -> Lane:
    """Return the lane of the rows that are ready now: the run's, or live if a batch would be late or not worth it."""
    chosen = LANES[context.run.chosen_lane] if context.run.chosen_lane else BATCH
    if not chosen.in_batches or _asked(context) != "auto":
        return chosen
    live, by = context.job.spec.live, context.run.finish_by
    with context.ledger.view() as tx:
        counts = ledger_rows.count_by_state(tx, context.run)
        pasts = ledger_live_calls.lane_history(tx, context.run.job, context.run.api) if by else None
    ready, moving = counts[RowState.READY], counts[RowState.IN_FLIGHT] + counts[RowState.REPLIED]
    if pasts and by and would_batch_be_late(ready + moving, live.concurrency, pasts, now, from_timestamp(by)):
        return LIVE
    return LIVE if is_tail_of_run(ready, moving, sum(counts.values()), live.tail_rows) else chosen


def must_leave_batches(context: RunContext, *, now: datetime) -> bool:
    """Return whether rows waiting in batches must go live now to meet the deadline."""
    if not context.run.finish_by or _asked(context) != "auto":
        return False
    with context.ledger.view() as tx:
        waiting = sum(batch.rows for batch in ledger_batches.batches_in_states(tx, context.run, ["open"]))
        pasts = ledger_live_calls.lane_history(tx, context.run.job, context.run.api)
    return waiting > 0 and now >= latest_live_start(
        waiting, context.job.spec.live.concurrency, pasts, from_timestamp(context.run.finish_by)
    )


def _asked(context: RunContext) -> str:
    """Return the lane that the command asked for, else the job's."""
    return context.run.lane if context.run.lane != "auto" else context.job.spec.lane

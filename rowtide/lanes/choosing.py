"""Choosing the lane of a run's rows from what the ledger knows; and noticing that batches would be late."""

from datetime import datetime

from rowtide.api.walls import left_micro
from rowtide.job.job import Lane
from rowtide.ladder.pricing import MICRO
from rowtide.lanes.lanes import Ahead, choose, is_tail, last_moment, must_hurry, named
from rowtide.ledger import ledger_batches, ledger_lanes, ledger_rows
from rowtide.ledger.ledger import moment
from rowtide.ledger.states import RowState
from rowtide.work import Work


def choose_lane(work: Work, *, now: datetime) -> Lane:
    """Choose the run's lane, once its rows are in, and write it down with the reason. What was chosen once stays."""
    spec, run = work.job.spec, work.run
    if run.chosen_lane is not None:
        return named(run.chosen_lane)
    with work.ledger.view() as tx:
        rows = ledger_rows.counts(tx, run)[RowState.READY]
        pasts = ledger_lanes.pasts(tx, run.job, run.api)
    ahead = Ahead(
        rows=rows,
        has_after=spec.after is not None,
        asked=_asked(work),
        concurrency=spec.live.concurrency,
        left_usd=None if (left := left_micro(work, now=now)) is None else left / MICRO,
        batch_share=float(work.top.batch_share),
        finish_by=moment(run.finish_by) if run.finish_by else None,
    )
    choice = choose(ahead, pasts, now)
    with work.ledger.page() as tx:
        ledger_lanes.record_choice(tx, run, choice)
    return choice.lane


def lane_now(work: Work, *, now: datetime) -> Lane:
    """The lane of the rows that are ready now: the run's; or live, where a batch would be late or is not worth it."""
    chosen = work.run.chosen_lane or "batch"
    if chosen != "batch" or _asked(work) != "auto":
        return named(chosen)
    live, by = work.job.spec.live, work.run.finish_by
    with work.ledger.view() as tx:
        counts = ledger_rows.counts(tx, work.run)
        pasts = ledger_lanes.pasts(tx, work.run.job, work.run.api) if by else None
    ready, moving = counts[RowState.READY], counts[RowState.IN_FLIGHT] + counts[RowState.REPLIED]
    if pasts and by and must_hurry(ready + moving, live.concurrency, pasts, now, moment(by)):
        return "live"
    return "live" if is_tail(ready, moving, sum(counts.values()), live.tail_rows) else "batch"


def is_overdue(work: Work, *, now: datetime) -> bool:
    """Whether rows that wait in batches must go live at once to be done by the deadline."""
    if not work.run.finish_by or _asked(work) != "auto":
        return False
    with work.ledger.view() as tx:
        waiting = sum(batch.rows for batch in ledger_batches.batches_in(tx, work.run, ["open"]))
        pasts = ledger_lanes.pasts(tx, work.run.job, work.run.api)
    return waiting > 0 and now >= last_moment(
        waiting, work.job.spec.live.concurrency, pasts, moment(work.run.finish_by)
    )


def _asked(work: Work) -> str:
    """What the command asked for; else what the job says."""
    return work.run.lane if work.run.lane != "auto" else work.job.spec.lane

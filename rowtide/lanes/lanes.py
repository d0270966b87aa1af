"""Chooses the lane of a run's rows, and says why: `lane: auto`, and what a deadline changes.

    1–5 rows       live, one at a time          rows that come after others   sequential
    6–20           live, all at once            a deadline batches would miss live
    21–100         stream                       a tail not worth a batch      live
    more           batch, at half price

A job or a command may name the lane instead. Then no row changes to another.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from rowtide.lanes.lane_table import BATCH, LANES, LIVE, SEQUENTIAL, STREAM, Lane
from rowtide.text_format import format_age

ONE_AT_A_TIME, ALL_AT_ONCE, WORTH_WATCHING = 5, 20, 100  # rows
TAIL_SHARE = 0.02  # of a run: a larger tail costs more than the hour it saves
SPARE = 1.5  # the live calls may take so much longer than forecast before a deadline is missed
FEWEST_LIVE = timedelta(seconds=5)  # the least time that going live takes, including the cancellation of batches


@dataclass(frozen=True, slots=True)
class LaneHistory:
    """What the ledger has measured, or the defaults until it has."""

    batch_p90: timedelta = timedelta(hours=1)
    """The time in which nine of ten batches ended. Most take less than an hour (platform.claude.com, batch processing).
    """
    batches: int = 0
    """The number of batches measured; 0 for none."""
    call_seconds: float = 10.0
    """The duration of one live reply, in seconds."""
    turns: float = 2.0
    """Replies per row of this job."""
    row_usd: float | None = None
    """The cost of a row of this job, mostly in batches; None if none was measured."""


@dataclass(frozen=True, slots=True)
class WorkToDo:
    """What is to be done, and by when."""

    rows: int
    has_after: bool
    asked: str
    """`auto`, or the lane that was asked for."""
    concurrency: int
    left_usd: float | None = None
    """What may still be spent, in US dollars; None without a limit."""
    batch_share: float = 1.0
    """A batch's share of the live price."""
    finish_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class LaneChoice:
    lane: Lane
    why: str


def choose_lane(work: WorkToDo, pasts: LaneHistory, now: datetime) -> LaneChoice:
    """Return the lane of a run's rows, and why in one line."""
    if work.asked != "auto":
        return LaneChoice(LANES[work.asked], "as asked")
    if work.has_after:
        return LaneChoice(SEQUENTIAL, "rows come after others, whose answers they see")
    if work.rows > WORTH_WATCHING:
        return _hurry(work, pasts, now) or LaneChoice(BATCH, f"{work.rows:,} rows and no hurry: half the price")
    if too_dear := _too_dear(work, pasts):
        return LaneChoice(BATCH, too_dear)
    if work.rows <= ONE_AT_A_TIME:
        return LaneChoice(LIVE, f"{_rows(work.rows)}: live, one at a time, is done sooner than any batch")
    if work.rows <= ALL_AT_ONCE:
        return LaneChoice(LIVE, f"{work.rows} rows: live, all at once, is done sooner than any batch")
    return LaneChoice(STREAM, f"{work.rows} rows: live, up to {work.concurrency} at once, seen as they are written")


def concurrent_calls(rows: int, concurrency: int) -> int:
    """Return how many live calls are made at once for so many rows."""
    return 1 if rows <= ONE_AT_A_TIME else min(rows, concurrency)


def is_tail_of_run(ready: int, in_flight: int, rows: int, tail_rows: int) -> bool:
    """Return whether the ready rows are the last few of a run, with none in flight."""
    return 0 < ready <= min(tail_rows, rows * TAIL_SHARE) and in_flight == 0


def would_batch_be_late(rows: int, concurrency: int, pasts: LaneHistory, now: datetime, finish_by: datetime) -> bool:
    """Return whether so many rows would be late if they went into a batch now."""
    return now + pasts.batch_p90 > finish_by or now >= latest_live_start(rows, concurrency, pasts, finish_by)


def latest_live_start(rows: int, concurrency: int, pasts: LaneHistory, finish_by: datetime) -> datetime:
    """Return when rows that wait in batches must go live to meet the deadline."""
    return finish_by - max(live_duration(rows, concurrency, pasts) * SPARE, FEWEST_LIVE)


def live_duration(rows: int, concurrency: int, pasts: LaneHistory) -> timedelta:
    """Return how long so many rows take in live calls, by earlier calls and the job's concurrency."""
    return timedelta(seconds=rows * pasts.turns * pasts.call_seconds / concurrent_calls(rows, concurrency))


def _hurry(work: WorkToDo, pasts: LaneHistory, now: datetime) -> LaneChoice | None:
    if work.finish_by is None or not would_batch_be_late(work.rows, work.concurrency, pasts, now, work.finish_by):
        return None
    seen = f"nine of ten of the last {pasts.batches} batches took" if pasts.batches else "a batch is taken to take"
    due = f"is in {format_age(work.finish_by - now)}" if work.finish_by > now else "has passed"
    return LaneChoice(LIVE, f"{seen} up to {format_age(pasts.batch_p90)}, and the deadline {due}")


def _too_dear(work: WorkToDo, pasts: LaneHistory) -> str | None:
    """Return why the remaining budget cannot pay for live calls, or None."""
    if work.left_usd is None or pasts.row_usd is None:
        return None
    live = pasts.row_usd / work.batch_share * work.rows
    if live <= work.left_usd:
        return None
    return f"live would cost about ${live:.4f}, and ${work.left_usd:.4f} is left: half the price"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"

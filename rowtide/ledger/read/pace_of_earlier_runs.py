"""Reads how long earlier runs of a job took and what a row of them cost, to foresee the end of one that runs."""

import statistics
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from rowtide.agent.states import RowState
from rowtide.lanes.lane_table import LANES
from rowtide.ledger.ledger import Run, from_timestamp
from rowtide.ledger.read.progress import Progress
from rowtide.text_format import format_age
from rowtide.tiers.pricing import MICRO

RUNS = 5  # the newest that count


@dataclass(frozen=True, slots=True)
class Pace:
    """The medians of a job's newest finished runs on the same API and lane."""

    duration: timedelta
    row_seconds: float
    """Seconds of a run for each row that was asked."""
    row_usd: float
    """US dollars for each row that was asked."""

    def left(self, seen: Progress, now: datetime) -> timedelta:
        """Return the time until the run is over. Batches are waited for as long however many rows they have; live calls
        are not. Never below zero: a run may take longer than earlier ones.
        """
        elapsed = now - seen.began_at
        if LANES[seen.lane].in_batches:
            return max(self.duration - elapsed, timedelta())
        return timedelta(seconds=(seen.rows - seen.settled) * self.row_seconds)

    def outlook(self, seen: Progress, now: datetime) -> str:
        """`$1.2034 of about $3.07 · about 6 min left`, without the first part."""
        left = self.left(seen, now)
        words = f"about {format_age(left)} left" if left else f"longer than earlier runs ({format_age(self.duration)})"
        asked = seen.rows - seen.states[RowState.UNCHANGED]
        return f"of about ${asked * self.row_usd:.2f} · {words}, as earlier runs went"


def read_pace(tx: Connection, run: Run) -> Pace | None:
    """Read the pace of earlier runs; None where none was finished on this API and lane."""
    query = text(
        "SELECT u.started_at, u.finished_at, "
        "(SELECT count(*) FROM row r WHERE r.run_no = u.run_no AND r.turn > 0) asked, "
        "(SELECT sum(r.cost_micro) FROM row r WHERE r.run_no = u.run_no) cost FROM run u "
        "WHERE u.job = :job AND u.api = :api AND coalesce(u.chosen_lane, u.lane) = :lane AND u.run_no < :run "
        "AND u.finished_at IS NOT NULL AND EXISTS (SELECT 1 FROM row r WHERE r.run_no = u.run_no AND r.turn > 0) "
        f"ORDER BY u.run_no DESC LIMIT {RUNS}"
    )
    names = {"job": run.job, "api": run.api, "lane": run.chosen_lane or run.lane, "run": run.run_no}
    found = tx.execute(query, names).all()
    if not found:
        return None
    seconds = [(from_timestamp(each.finished_at) - from_timestamp(each.started_at)).total_seconds() for each in found]
    return Pace(
        timedelta(seconds=statistics.median(seconds)),
        statistics.median(each / row.asked for each, row in zip(seconds, found, strict=True)),
        statistics.median(int(row.cost) / MICRO / row.asked for row in found),
    )

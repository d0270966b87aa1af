"""Metrics of all that is under way, in a few aggregate queries, for a monitoring system to read every minute.

Only the rows of unfinished runs are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger.batches import IN_BATCHES
from rowtide.ledger.inbox import WaitingRows
from rowtide.ledger.ledger import ROWS_PER_RUN, from_timestamp
from rowtide.tiers.pricing import MICRO

NEWEST = 100  # unfinished runs, at most: each is a set of time series

Counted = Sequence[tuple[tuple[str, ...], float]]
"""(labels, value) pairs."""


@dataclass(frozen=True, slots=True)
class LedgerMetrics:
    """Each metric by its labels."""

    rows: Counted
    """(job, run_id, row state): rows of unfinished runs."""
    batches: Counted
    """(job, open | unconfirmed | orphaned): batches at the API as far as we know."""
    batch_age: Counted
    """(job, open | unconfirmed): seconds since the oldest of them was posted."""
    spent_usd: Counted
    """(job,): cost of all its batches and live calls, ever."""
    at_stake_usd: Counted
    """(job,): worst-case cost of what is in flight."""
    tool_calls: Counted
    """(job, tool, answered | failed): calls of unfinished runs, without remembered ones."""
    pending_gate_approvals: Counted
    """(job, gate): gates that await approval."""
    waiting: Sequence[WaitingRows]
    """Rows that came by webhook and that no run has claimed."""


def read_ledger_metrics(tx: Connection, *, now: datetime) -> LedgerMetrics:
    """Read all metrics as of now."""
    stood = (
        "SELECT r.job, "
        "CASE WHEN b.state = 'open' THEN 'open' WHEN b.state = 'orphaned' THEN 'orphaned' ELSE 'unconfirmed' END s, "
        f"count(*), min(b.posted_at) FROM batch b JOIN run r USING (run_no) WHERE b.{IN_BATCHES} AND "
        "(b.state IN ('open', 'orphaned') OR (b.state = 'posting' AND b.unconfirmed_at IS NOT NULL)) GROUP BY 1, 2"
    )
    batches = [(job, state, count, at) for job, state, count, at in tx.execute(text(stood))]
    money = "SELECT r.job, sum(b.cost_micro), sum(b.reserved_micro) FROM batch b JOIN run r USING (run_no) GROUP BY 1"
    spent = [(job, int(cost or 0) / MICRO, int(stake or 0) / MICRO) for job, cost, stake in tx.execute(text(money))]
    held = (
        "SELECT r.job, h.gate, count(*) FROM gate_approval h JOIN run r USING (run_no) "
        "WHERE h.state = 'asked' GROUP BY 1, 2"
    )
    return LedgerMetrics(
        rows=_counted(
            tx, f"SELECT r.job, r.run_id, w.state, count(*) {_OPEN} JOIN row w USING (run_no) GROUP BY 1, 2, 3"
        ),
        batches=[((job, state), count) for job, state, count, _ in batches],
        batch_age=[
            ((j, s), (now - from_timestamp(at)).total_seconds()) for j, s, _, at in batches if at and s != "orphaned"
        ],
        spent_usd=[((job,), cost) for job, cost, _ in spent],
        at_stake_usd=[((job,), stake) for job, _, stake in spent],
        tool_calls=_counted(tx, _TOOL_CALLS),
        pending_gate_approvals=_counted(tx, held),
        waiting=ledger_inbox.waiting_rows(tx),
    )


_OPEN = f"FROM (SELECT * FROM run WHERE finished_at IS NULL ORDER BY run_no DESC LIMIT {NEWEST}) r"
_TOOL_CALLS = (
    "SELECT r.job, t.tool, CASE WHEN t.is_error = 1 THEN 'failed' ELSE 'answered' END, count(*) "
    f"{_OPEN} JOIN tool_call t ON t.row_no BETWEEN r.run_no * {ROWS_PER_RUN} AND (r.run_no + 1) * {ROWS_PER_RUN} - 1 "
    "WHERE t.remembered = 0 GROUP BY 1, 2, 3"
)


def _counted(tx: Connection, query: str) -> Counted:
    return [(tuple(map(str, labels)), int(count)) for *labels, count in tx.execute(text(query))]

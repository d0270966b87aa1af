"""Counts how a run's rows fared with the job's own code: how many were tried, and which were quarantined by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from rowtide.ledger.ledger import Run, insert_rows, to_timestamp
from rowtide.ledger.rows import move_rows_alike

AS_MANY_AS_COUNT = 1000  # counting stops here: a run with so many rows tried is past its beginning
UNTRIED = {
    "prompt": "state = 'ready' AND turn = 0",
    "rubric": "state IN ('ready', 'in_flight', 'replied', 'held')",
    "answer": "state IN ('ready', 'in_flight', 'replied', 'held')",
}
UNFILLED = "state = 'quarantined' AND reason = 'template_failed'"
TRIED = {
    "prompt": f"state <> 'ready' AND (turn > 0 OR batch_no IS NOT NULL OR {UNFILLED})",
    "rubric": f"(EXISTS (SELECT 1 FROM turn t WHERE t.row_no = row.row_no AND t.kind = 'check') OR {UNFILLED})",
    # An earlier run's answer counts if it passes the job's checks of today.
    "answer": "(turn > 0 AND state IN ('answered', 'accepted', 'loaded', 'quarantined') "
    "OR state = 'unchanged' AND reason IS NULL)",
}


@dataclass(frozen=True, slots=True)
class JobCodeQuarantine:
    """A row that was quarantined because the job's code failed on it."""

    row_no: int
    turn: int
    tier: int


def count_tried(tx: Connection, run: Run, what: str) -> int:
    """Count the rows that got past the job's own code `what` (prompt, rubric or answer), up to AS_MANY_AS_COUNT."""
    query = f"SELECT count(*) FROM (SELECT 1 FROM row WHERE run_no = :run AND {TRIED[what]} LIMIT :most) AS found"
    return tx.execute(text(query), {"run": run.run_no, "most": AS_MANY_AS_COUNT}).scalar_one()


def count_untried(tx: Connection, run: Run, what: str) -> int:
    """Count the rows that have not reached the job's own code `what` (prompt, rubric or answer) yet."""
    return tx.execute(
        text(f"SELECT count(*) FROM row WHERE run_no = :run AND {UNTRIED[what]}"), {"run": run.run_no}
    ).scalar_one()


def quarantined_by_job_code(tx: Connection, run: Run, reason: str, where: str) -> list[JobCodeQuarantine]:
    """Return the rows quarantined with this reason because the job's code failed in this place."""
    query = text(
        "SELECT r.row_no, r.turn, coalesce(r.tier, 0) FROM row r WHERE r.run_no = :run AND r.state = 'quarantined' "
        "AND r.reason = :reason AND EXISTS (SELECT 1 FROM note n WHERE n.row_no = r.row_no AND n.turn >= r.turn - 1 "
        "AND n.move = 'quarantine' AND substr(n.detail, 1, :length) = :where)"
    )
    values = {"run": run.run_no, "reason": reason, "where": where, "length": len(where)}
    return [JobCodeQuarantine(*each) for each in tx.execute(query, values)]


def return_to_waiting(
    tx: Connection, run: Run, move: str, rows: Sequence[JobCodeQuarantine], reason: str, why: str, *, now: datetime
) -> None:
    """Return rows to the state they had before the job's code failed: by `retry` to be sent, `rejudge` to be judged."""
    move_rows_alike(tx, move, [row.row_no for row in rows], "reason = NULL")
    columns, at = ["move", "noted_at", "row_no", "turn", "reason", "detail"], to_timestamp(now)
    insert_rows(tx, "note", columns, [(move, at, row.row_no, row.turn, reason, why) for row in rows])
    forgotten = text(
        "DELETE FROM unverified WHERE job = :job AND row_key = (SELECT row_key FROM row WHERE row_no = :row) "
        "AND row_id = (SELECT row_id FROM row WHERE row_no = :row)"
    )
    if rows:
        tx.execute(forgotten, [{"job": run.job, "row": row.row_no} for row in rows])

"""Putting accepted rows into the sink: which part holds which row, and what stands under which key.

A load is written down before its part is: its rows are fixed then, so writing the part again after a kill writes
the same part.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from rowtide.ledger import Run, timestamp
from rowtide.ledger_rows import move


def unfinished(tx: Connection, run: Run) -> list[tuple[int, str]]:
    """Loads that a previous life began: (load_no, part)."""
    query = text("SELECT load_no, part FROM load WHERE run_no = :run AND done_at IS NULL ORDER BY load_no")
    return [(load_no, part) for load_no, part in tx.execute(query, {"run": run.run_no})]


def begin(tx: Connection, run: Run, sink: str, *, limit: int, now: datetime) -> tuple[int, str] | None:
    """Fix the next part: the first accepted rows that are in none. None when there are none."""
    accepted = "FROM row WHERE run_no = :run AND state = 'accepted' AND load_no IS NULL"
    if tx.execute(text(f"SELECT 1 {accepted} LIMIT 1"), {"run": run.run_no}).first() is None:
        return None
    parts = tx.execute(text("SELECT count(*) FROM load WHERE run_no = :run"), {"run": run.run_no}).scalar_one()
    part = f"{run.run_id}-{parts + 1:06d}"
    load_no = tx.execute(
        text("INSERT INTO load (run_no, part, sink, begun_at) VALUES (:run, :part, :sink, :now) RETURNING load_no"),
        {"run": run.run_no, "part": part, "sink": sink, "now": timestamp(now)},
    ).scalar_one()
    tx.execute(
        text(f"UPDATE row SET load_no = :load WHERE row_no IN (SELECT row_no {accepted} ORDER BY row_no LIMIT :limit)"),
        {"load": load_no, "run": run.run_no, "limit": limit},
    )
    return load_no, part


def rows_of(tx: Connection, run: Run, load_no: int) -> list[tuple[int, str, str, bytes]]:
    """The rows of a part: (row_no, row_key, row_id, answer as JSON)."""
    query = text(
        "SELECT r.row_no, r.row_key, r.row_id, a.content FROM row r JOIN answer a ON a.row_no = r.row_no "
        "WHERE r.run_no = :run AND r.state = 'accepted' AND r.load_no = :load ORDER BY r.row_no"
    )
    return [tuple(each) for each in tx.execute(query, {"run": run.run_no, "load": load_no})]


def superseded(tx: Connection, run: Run, load_no: int, sink: str) -> dict[str, set[str]]:
    """Older parts of this sink that hold keys this load writes again: part → keys."""
    query = text(
        "SELECT l.part, l.row_key FROM row r JOIN loaded l ON l.job = :job AND l.row_key = r.row_key "
        "JOIN load o ON o.load_no = :load "
        "WHERE r.run_no = :run AND r.load_no = :load AND l.sink = :sink AND l.part <> o.part"
    )
    found: dict[str, set[str]] = defaultdict(set)
    for part, key in tx.execute(query, {"job": run.job, "run": run.run_no, "load": load_no, "sink": sink}):
        found[part].add(key)
    return found


def finish(
    tx: Connection,
    run: Run,
    load_no: int,
    part: str,
    sink: str,
    rows: Sequence[tuple[int, str, str, bytes]],
    *,
    now: datetime,
) -> None:
    """The part stands in the sink: its rows are loaded, and remembered by key."""
    move(tx, "load", [{"row_no": row_no} for row_no, *_ in rows])
    tx.execute(
        text(
            "INSERT INTO loaded (job, row_key, row_id, job_version, sink, part, row_no) "
            "VALUES (:job, :key, :id, :version, :sink, :part, :row) ON CONFLICT (job, row_key) DO UPDATE SET "
            "row_id = excluded.row_id, job_version = excluded.job_version, sink = excluded.sink, "
            "part = excluded.part, row_no = excluded.row_no"
        ),
        [
            {
                "job": run.job,
                "key": key,
                "id": row_id,
                "version": run.job_version,
                "sink": sink,
                "part": part,
                "row": row_no,
            }
            for row_no, key, row_id, _ in rows
        ],
    )
    tx.execute(text("UPDATE load SET done_at = :now WHERE load_no = :load"), {"now": timestamp(now), "load": load_no})


def remember_set_aside(tx: Connection, run: Run) -> None:
    """Remember the rows that could not be verified, by key; what the world did to a row is no reason to."""
    tx.execute(
        text(
            "INSERT INTO set_aside (job, row_key, row_id, job_version, row_no) "
            "SELECT :job, row_key, row_id, :version, row_no FROM row "
            "WHERE run_no = :run AND state = 'quarantined' AND turn > 0 AND reason <> 'bounced_out' "
            "ON CONFLICT (job, row_key) DO UPDATE SET "
            "row_id = excluded.row_id, job_version = excluded.job_version, row_no = excluded.row_no"
        ),
        {"job": run.job, "version": run.job_version, "run": run.run_no},
    )

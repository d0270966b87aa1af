"""Records reloads: accepted answers loaded again, into any sink.

No row moves: a reload copies what was accepted.
"""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, text

from rowtide.ledger.answers import AcceptedAnswer
from rowtide.ledger.ledger import Run, insert_rows, is_one_of, list_parameter


def other_parts_with_keys(
    tx: Connection, run: Run, sink: str, part: str, rows: Sequence[AcceptedAnswer]
) -> tuple[dict[str, set[str]], set[str]]:
    """Return older parts of the sink that hold these keys (part → keys), and the keys that a later run has loaded."""
    query = text(
        "SELECT part, row_key, row_no FROM loaded WHERE job = :job AND sink = :sink "
        f"AND row_key {is_one_of(tx, 'keys', kind='text')}"
    )
    numbers = {row.row_key: row.row_no for row in rows}
    older: dict[str, set[str]] = defaultdict(set)
    newer: set[str] = set()
    found = tx.execute(query, {"job": run.job, "sink": sink, "keys": list_parameter(list(numbers))})
    for its_part, key, row_no in found:
        if row_no > numbers[key]:
            newer.add(key)
        elif its_part != part:
            older[its_part].add(key)
    return older, newer


def record_reloaded_part(tx: Connection, run: Run, sink: str, part: str, rows: Sequence[AcceptedAnswer]) -> None:
    """Record that the part stands in the sink: which row is there under each key."""
    columns = ["job", "row_key", "sink", "row_id", "asking", "judging", "part", "row_no", "api"]
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns[3:])
    there = f"ON CONFLICT (job, row_key, sink) DO UPDATE SET {changes} WHERE excluded.row_no >= loaded.row_no"
    kept = [
        (run.job, row.row_key, sink, row.row_id, row.asking or "", row.judging or "", part, row.row_no, run.api)
        for row in rows
    ]
    insert_rows(tx, "loaded", columns, kept, there)


def unfinished_loads_of_other_runs(tx: Connection, run: Run, sink: str) -> list[str]:
    """Return the other runs with an unfinished load into this sink."""
    query = text(
        "SELECT DISTINCT u.run_id FROM load l JOIN run u USING (run_no) "
        "WHERE l.sink = :sink AND l.done_at IS NULL AND l.run_no <> :run"
    )
    return list(tx.execute(query, {"sink": sink, "run": run.run_no}).scalars())


def has_begun_to_load(tx: Connection, run: Run) -> bool:
    """Return whether the run has begun to load, so that its gates have judged it."""
    query = text("SELECT 1 FROM load WHERE run_no = :run LIMIT 1")
    return tx.execute(query, {"run": run.run_no}).first() is not None

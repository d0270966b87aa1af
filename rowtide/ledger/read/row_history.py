"""Reads the history of one row: its turns, tool calls, notes, answer and load."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, text

from rowtide.errors import UserMistake
from rowtide.ledger import prefixes as ledger_prefixes
from rowtide.ledger.batches import Batch, batch_of
from rowtide.ledger.ledger import Run, find_run


@dataclass(frozen=True)
class RowHistory:
    """All that the ledger knows of one row, oldest first."""

    run: Run
    row: RowMapping
    content: dict[str, Any]
    turns: Sequence[RowMapping]
    tool_calls: Sequence[RowMapping]
    notes: Sequence[RowMapping]
    answer: dict[str, Any] | None
    batch: Batch | None
    """The batch it waits for, if it waits."""
    load: RowMapping | None
    skills: list[str]
    estimate: RowMapping | None
    """Its estimated chances per tier, and why, if they decided its first tier."""


def row_history(tx: Connection, row_key: str, run_id: str | None = None) -> RowHistory:
    """Return the history of a row in the run named, or in the newest run, no eval's, that worked on it.

    Raises UserMistake with a similar key when there is no such row.
    """
    where = "r.row_key = :key AND " + ("u.run_id = :run" if run_id else "u.eval_id IS NULL")
    query = text(
        f"SELECT r.*, u.run_id FROM row r JOIN run u ON u.run_no = r.run_no WHERE {where} "
        "ORDER BY r.state = 'unchanged', r.row_no DESC LIMIT 1"
    )
    row = tx.execute(query, {"key": row_key, "run": run_id}).mappings().first()
    if row is None:
        raise UserMistake(f"no row {row_key!r} in this ledger", meant=_alike(tx, row_key))

    def of_row(query: str) -> Sequence[RowMapping]:
        return tx.execute(text(query), {"row": row["row_no"], "load": row["load_no"]}).mappings().all()

    content = of_row("SELECT content FROM row_content WHERE row_no = :row")[0]["content"]
    answer = of_row("SELECT content FROM answer WHERE row_no = :row")
    turns = of_row(
        "SELECT t.*, b.lane, b.api_id, b.posted_at, b.filed_at, b.rows batch_rows FROM turn t "
        "JOIN batch b ON b.batch_no = t.batch_no WHERE t.row_no = :row ORDER BY t.turn"
    )
    loads = of_row("SELECT * FROM load WHERE load_no = :load")
    estimates = of_row("SELECT * FROM estimate WHERE row_no = :row")
    run = find_run(tx, row["run_id"])
    return RowHistory(
        run=run,
        row=row,
        content=orjson.loads(content),
        turns=turns,
        tool_calls=of_row("SELECT * FROM tool_call WHERE row_no = :row ORDER BY turn, position"),
        notes=of_row("SELECT * FROM note WHERE row_no = :row ORDER BY note_no"),
        answer=orjson.loads(answer[0]["content"]) if answer else None,
        batch=batch_of(tx, row["batch_no"]) if row["state"] in ("in_flight", "held") else None,
        load=loads[0] if loads else None,
        skills=list(ledger_prefixes.skills_by_prefix(tx, run).get(row["prefix_no"], ())),
        estimate=estimates[0] if estimates else None,
    )


def _alike(tx: Connection, row_key: str) -> str | None:
    query = text("SELECT row_key FROM row WHERE lower(row_key) LIKE lower(:like) ORDER BY length(row_key) LIMIT 1")
    return tx.execute(query, {"like": f"%{row_key}%"}).scalar()

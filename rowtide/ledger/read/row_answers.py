"""Reads the answers of some rows of a run, by key."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, text

from rowtide.ledger.ledger import Run, is_one_of, list_parameter


class RowAnswer(NamedTuple):
    """A settled row."""

    row_key: str
    content: bytes | None
    """Its accepted answer as JSON; None where it was quarantined."""


def row_answers(tx: Connection, run: Run, keys: Collection[str]) -> list[RowAnswer]:
    """Return the rows that the run settled itself among these keys: accepted, loaded or quarantined."""
    query = text(
        "SELECT r.row_key, CASE WHEN r.state = 'quarantined' THEN NULL ELSE a.content END FROM row r "
        "LEFT JOIN answer a ON a.row_no = r.row_no WHERE r.run_no = :run "
        f"AND r.state IN ('accepted', 'loaded', 'quarantined') AND r.row_key {is_one_of(tx, 'keys', kind='text')} "
        "ORDER BY r.row_no"
    )
    found = tx.execute(query, {"run": run.run_no, "keys": list_parameter(list(keys))})
    return [RowAnswer(key, None if content is None else bytes(content)) for key, content in found]

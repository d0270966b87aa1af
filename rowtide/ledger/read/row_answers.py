"""Reads the answers of some rows of a run, by key."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, text

from rowtide.ledger.ledger import Run, is_one_of, list_parameter


class RowAnswer(NamedTuple):
    """A row of a run, with its answer where it has an accepted one."""

    row_key: str
    state: str
    content: bytes | None
    """Its answer as JSON; None unless the row is accepted or loaded."""


def row_answers(tx: Connection, run: Run, keys: Collection[str]) -> list[RowAnswer]:
    """Return the rows of a run among these keys, in the order of the source."""
    query = text(
        "SELECT r.row_key, r.state, a.content FROM row r LEFT JOIN answer a ON a.row_no = r.row_no "
        "AND r.state IN ('accepted', 'loaded') WHERE r.run_no = :run "
        f"AND r.row_key {is_one_of(tx, 'keys', kind='text')} ORDER BY r.row_no"
    )
    found = tx.execute(query, {"run": run.run_no, "keys": list_parameter(list(keys))})
    return [RowAnswer(key, state, None if content is None else bytes(content)) for key, state, content in found]

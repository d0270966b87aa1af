"""Selects quarantined rows by key, by reason, or all; in pages, without their contents."""

from collections.abc import Generator, Sequence
from typing import Any

from sqlalchemy import Connection, text

from rowtide.errors import UserMistake, nearest_name
from rowtide.ledger.ledger import Run, is_one_of, list_parameter
from rowtide.ledger.quarantine import (
    IS_REFUSED,
    PAGE_ROWS,
    WHY,
    check_quarantine_reason,
    reason_condition,
    reason_groups,
    sample_quarantined_keys,
)
from rowtide.quarantine.quarantine_sheet import SelectedRow


def select_quarantined(
    tx: Connection, run: Run, keys: Sequence[str], reason: str | None, *, every: bool
) -> Generator[list[SelectedRow]]:
    """Yield the selected quarantined rows in pages. Rows of a page may leave the quarantine before the next is read.

    Raises UserMistake for a key or a reason that no such row has.
    """
    if [bool(keys), reason is not None, every].count(True) != 1:
        raise UserMistake("say which rows: keys, --reason or --all")
    if keys:
        found = _chosen(tx, run, "r.row_key {keys}", keys=keys)
        known = {each.row_key for each in found}
        for key in keys:
            if key not in known:
                raise UserMistake(
                    f"no row {key!r} in this quarantine", meant=nearest_name(key, sample_quarantined_keys(tx, run))
                )
        yield found
        return
    check_quarantine_reason(reason, {each.reason: each.rows for each in reason_groups(tx, run)})
    which, after = reason_condition(reason), 0
    while page := _chosen(tx, run, f"{which} AND r.row_no > :after", reason=reason, after=after):
        yield page
        after = page[-1].row_no


def _chosen(tx: Connection, run: Run, where: str, **values: Any) -> list[SelectedRow]:
    """Return the next quarantined rows `where`; `{keys}` in it stands for a list, which is read whole."""
    limit = "" if "keys" in values else f"LIMIT {PAGE_ROWS}"
    values |= {"keys": list_parameter(values["keys"])} if "keys" in values else {}
    query = text(
        f"SELECT r.row_no, r.turn, r.row_key, coalesce(r.reason, ''), {WHY}, CASE WHEN {IS_REFUSED} THEN 1 ELSE 0 END "
        "FROM row r JOIN row_content c ON c.row_no = r.row_no WHERE r.run_no = :run AND r.state = 'quarantined' "
        f"AND {where.format(keys=is_one_of(tx, 'keys', kind='text'))} ORDER BY r.row_no {limit}"
    )
    return [SelectedRow(*each) for each in tx.execute(query, {"run": run.run_no, **values}).tuples()]

"""Orders rows for the sequential lane: which row comes after which.

A row whose `after:` column names no row, or that is part of a cycle, is quarantined with that reason.
"""

from collections.abc import Mapping
from datetime import datetime

import orjson

from rowtide.agent.states import RowState
from rowtide.ledger import live_calls as ledger_live_calls
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.rows import MoveReason
from rowtide.stages.run_context import SPOOL_PAGE, RunContext


def order_rows(context: RunContext, *, now: datetime) -> None:
    """Link every ready row to the row it comes after: the one its column names, or the one before it in the source."""
    if context.job.spec.after is None:
        with context.ledger.page() as tx:
            ledger_live_calls.link_rows_in_order(tx, context.run)
        return
    after = 0
    while page := _page(context, after):
        after = page[-1]
        _link(context, page, context.job.spec.after, now)
    with context.ledger.page() as tx:
        turning = [
            MoveReason(row_no, 0, "after_circle", "it comes after itself")
            for row_no in rows_in_cycles(ledger_live_calls.row_links(tx, context.run))
        ]
        ledger_rows.quarantine_rows(tx, turning, now=now)


def rows_in_cycles(links: Mapping[int, int]) -> list[int]:
    """Return the rows that are on a cycle of links (row → the row it comes after)."""
    found: list[int] = []
    seen: dict[int, int] = {}
    for start in links:
        row, path = start, list[int]()
        while row in links and row not in seen:
            seen[row] = start
            path.append(row)
            row = links[row]
        if seen.get(row) == start and row in path:
            found += path[path.index(row) :]
    return sorted(found)


def _page(context: RunContext, after: int) -> list[int]:
    with context.ledger.view() as tx:
        page = ledger_rows.rows_page(tx, context.run, RowState.READY, after=after, limit=SPOOL_PAGE)
    return [row.row_no for row in page]


def _link(context: RunContext, page: list[int], column: str, now: datetime) -> None:
    with context.ledger.page() as tx:
        contents = ledger_turns.row_contents(tx, page)
        named = {row_no: _name(orjson.loads(content).get(column)) for row_no, content in contents.items()}
        keys = {row_no: key for row_no, key in named.items() if key}
        unknown = ledger_live_calls.link_rows(tx, context.run, keys)
        move_reasons = [
            MoveReason(row_no, 0, "after_unknown", f"no row is called {keys[row_no]!r}") for row_no in unknown
        ]
        ledger_rows.quarantine_rows(tx, move_reasons, now=now)


def _name(value: object) -> str:
    return "" if value is None else str(value).strip().replace("\0", "\\0")  # no key holds a NUL

"""Putting rows in order: which row comes after which, for the sequential lane.

A row whose `after:` column names no row, or that stands in a circle, is set aside with that as its reason: what it
was to see will never be there.
"""

from collections.abc import Mapping
from datetime import datetime

import orjson

from rowtide.ledger import ledger_lanes, ledger_rows, ledger_turns
from rowtide.ledger.ledger_rows import Remark
from rowtide.ledger.states import RowState
from rowtide.work import SPOOL_PAGE, Work


def put_in_order(work: Work, *, now: datetime) -> None:
    """Link every ready row to the one it comes after: as its column says, or the one before it in the source."""
    if work.job.spec.after is None:
        with work.ledger.page() as tx:
            ledger_lanes.link_in_order(tx, work.run)
        return
    after = 0
    while page := _page(work, after):
        after = page[-1]
        _link(work, page, work.job.spec.after, now)
    with work.ledger.page() as tx:
        turning = [
            Remark(row_no, 0, "after_circle", "it comes after itself")
            for row_no in in_circles(ledger_lanes.links(tx, work.run))
        ]
        ledger_rows.quarantine(tx, turning, now=now)


def in_circles(links: Mapping[int, int]) -> list[int]:
    """The rows (row → the row it comes after) from which one comes back to where one was."""
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


def _page(work: Work, after: int) -> list[int]:
    with work.ledger.view() as tx:
        page = ledger_rows.page_of(tx, work.run, RowState.READY, after=after, limit=SPOOL_PAGE)
    return [row.row_no for row in page]


def _link(work: Work, page: list[int], column: str, now: datetime) -> None:
    with work.ledger.page() as tx:
        contents = ledger_turns.contents(tx, page)
        named = {row_no: _name(orjson.loads(content).get(column)) for row_no, content in contents.items()}
        keys = {row_no: key for row_no, key in named.items() if key}
        strays = ledger_lanes.link(tx, work.run, keys)
        remarks = [Remark(row_no, 0, "after_unknown", f"no row is called {keys[row_no]!r}") for row_no in strays]
        ledger_rows.quarantine(tx, remarks, now=now)


def _name(value: object) -> str:
    return "" if value is None else str(value).strip().replace("\0", "\\0")  # no key holds a NUL

"""A first tier for each row, and a lane for all."""

import orjson

from blocks.ledger_database import LedgerDatabase
from rowtide import clock
from rowtide.lanes.choosing import choose_lane
from rowtide.lanes.ordering import put_in_order
from rowtide.ledger import ledger_routes, ledger_rows
from rowtide.ledger.ledger import find_run
from rowtide.observing.happenings import happened
from rowtide.routing.starting import Starter, starting
from rowtide.work import SPOOL_PAGE, Work
from tasks.durable import durable


@durable
async def route(run_id: str) -> int:
    """Give every ready row that has no tier its first: by the rules of `start`, else by estimate, else the lowest.

    Then choose the lane by which they go. Returns how many rows were given a tier.
    """
    async with (await LedgerDatabase.in_force()).get_work(run_id) as work:
        with starting(work.job, work.run.api) as starter:
            routed = _route(work, starter)
        now = clock.now()
        if choose_lane(work, now=now) == "sequential":
            put_in_order(work, now=now)
        if routed:
            _say(work, routed)
        return routed


def _say(work: Work, routed: int) -> None:
    with work.ledger.view() as tx:
        run = find_run(tx, work.run.run_id)
    known = {"run_id": run.run_id, "job": run.job, "rows": routed, "lane": run.chosen_lane}
    happened("rows_in", f"{routed:,} rows are to be asked, by lane {run.chosen_lane}: {run.lane_why}", known)


def _route(work: Work, starter: Starter) -> int:
    """Page by page, each committed; all at once where nothing tells rows apart."""
    if starter.asker is None and starter.router is None:
        with work.ledger.page() as tx:
            return ledger_rows.route(tx, work.run, tier=0)
    routed, after = 0, work.run.first_row_no
    while True:
        with work.ledger.view() as tx:
            page = ledger_routes.unrouted(tx, work.run, after=after, limit=SPOOL_PAGE)
        if not page:
            return routed
        starts = starter.starts([(row_no, orjson.loads(content)) for row_no, content in page])
        with work.ledger.page() as tx:
            ledger_routes.start(tx, starts)
        routed, after = routed + len(page), page[-1][0]

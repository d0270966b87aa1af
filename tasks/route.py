"""Routes rows: a first tier for each row, and a lane for all."""

import orjson

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.ledger import routes as ledger_routes
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import find_run
from rowtide.observing.event_log import log_event
from rowtide.stages.converse.sequential_order import order_rows
from rowtide.stages.route.lane_choice import choose_run_lane
from rowtide.stages.route.start_tiers import Starter, open_starter
from rowtide.stages.run_context import SPOOL_PAGE, RunContext


@durable
async def route(run_id: str) -> int:
    """Give every ready row without a tier its first: by the rules of `start`, else by estimate, else the lowest.

    Then choose the lane of all rows. Returns how many rows were given a tier.
    """
    async with (await LedgerSettings.in_force()).get_run_alone(run_id) as context:
        with open_starter(context.job, context.run.api) as starter:
            routed = _route(context, starter)
        now = clock.now()
        if choose_run_lane(context, now=now).in_order:
            order_rows(context, now=now)
        if routed:
            _log_routing(context, routed)
        return routed


def _log_routing(context: RunContext, routed: int) -> None:
    with context.ledger.view() as tx:
        run = find_run(tx, context.run.run_id)
    known = {"run_id": run.run_id, "job": run.job, "rows": routed, "lane": run.chosen_lane}
    log_event("rows_in", f"{routed:,} rows are to be asked, by lane {run.chosen_lane}: {run.lane_why}", known)


def _route(context: RunContext, starter: Starter) -> int:
    """Route page by page, each committed; all rows at once if neither rules nor a router tell them apart."""
    if starter.asker is None and starter.router is None:
        with context.ledger.page() as tx:
            return ledger_rows.route_rows(tx, context.run, tier=0)
    routed, after = 0, context.run.first_row_no
    while True:
        with context.ledger.view() as tx:
            page = ledger_routes.unrouted_rows(tx, context.run, after=after, limit=SPOOL_PAGE)
        if not page:
            return routed
        starts = starter.starts([(row_no, orjson.loads(content)) for row_no, content in page])
        with context.ledger.page() as tx:
            ledger_routes.start_rows(tx, starts)
        routed, after = routed + len(page), page[-1][0]

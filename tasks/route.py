"""A first tier for each row, and a lane for all."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import orjson

from blocks.ledger_database import LedgerDatabase
from rowtide.lanes.choosing import choose_lane
from rowtide.lanes.ordering import put_in_order
from rowtide.ledger import ledger_routes, ledger_rows
from rowtide.ledger.ledger_routes import Start
from rowtide.routing.difficulty import Router, estimate, fits, read_router
from rowtide.routing.routing import Asker, asking, compile_rules, rung_of
from rowtide.work import SPOOL_PAGE, Work
from tasks.durable import durable


@durable
async def route(run_id: str) -> int:
    """Give every ready row that has no tier its first: by the rules of `start`, else by estimate, else the lowest.

    Then choose the lane by which they go. Returns how many rows were given a tier.
    """
    async with LedgerDatabase.from_environment().get_work(run_id) as work:
        routed = _route_all(work)
        now = datetime.now(UTC)
        if choose_lane(work, now=now) == "sequential":
            put_in_order(work, now=now)
        return routed


def _route_all(work: Work) -> int:
    router = read_router(work.job.folder)
    router = router if fits(router, work.job.spec.tiers) else None
    if not work.job.spec.start and router is None:
        with work.ledger.page() as tx:
            return ledger_rows.route(tx, work.run, tier=0)
    with _rules(work) as asker:
        return _route(work, asker, router)


@contextmanager
def _rules(work: Work) -> Generator[Asker | None]:
    """What the rules are asked through; None where there are none. Their columns were checked with the source."""
    if not work.job.spec.start:
        yield None
        return
    with asking(compile_rules(work.job.spec.start, None, work.job.folder), work.job.folder) as asker:
        yield asker


def _route(work: Work, asker: Asker | None, router: Router | None) -> int:
    """Page by page, each committed: what a row meets depends on the row alone, so a second try goes the same way."""
    spec = work.job.spec
    rungs = [rung_of(rule, number, spec.tiers, work.job.folder) for number, rule in enumerate(spec.start)]
    routed, after = 0, work.run.first_row_no
    while True:
        with work.ledger.view() as tx:
            page = ledger_routes.unrouted(tx, work.run, after=after, limit=SPOOL_PAGE)
        if not page:
            return routed
        rows: list[Mapping[str, object]] = [orjson.loads(content) for _, content in page]
        matches = asker.first_matches(rows) if asker else [None] * len(rows)
        starts = [
            _start(work, row_no, row, match, rungs, router)
            for (row_no, _), row, match in zip(page, rows, matches, strict=True)
        ]
        with work.ledger.page() as tx:
            ledger_routes.start(tx, starts)
        routed, after = routed + len(page), page[-1][0]


def _start(
    work: Work, row_no: int, row: Mapping[str, object], match: int | None, rungs: list[int], router: Router | None
) -> Start:
    if match is not None:
        rule = work.job.spec.start[match - 1]
        return Start(row_no, rungs[match - 1], rule.effort, rule.turns, match)
    if router is None:
        return Start(row_no, 0)
    found = estimate(router, row)
    chances, why = orjson.dumps(found.chances).decode(), orjson.dumps(found.why).decode()
    return Start(row_no, found.rung, rule=0, chances=chances, why=why)

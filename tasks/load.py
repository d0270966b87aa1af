"""Accepted rows into the sink, exactly once."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson

from blocks.ledger_database import LedgerDatabase
from rowtide.gates.holding import may_load
from rowtide.ladder.pricing import MICRO
from rowtide.ledger import ledger_loads
from rowtide.ledger.ledger_loads import Accepted, Load, Rivals
from rowtide.ledger.ledger_rows import Remark
from rowtide.sinks.columns import LINEAGE, Column, Page, as_page, unfit, without_rows
from rowtide.sinks.sinks import Part, Sink, open_sink
from rowtide.work import Work
from tasks.durable import durable

PART_BYTES = 64_000_000  # of answers: a part is in memory whole, once
PAGE_ROWS = 5000


@durable
async def load(run_id: str) -> int:
    """Finish the parts an earlier life began, then write the rest, if no gate holds it. Returns how many rows."""
    async with (await LedgerDatabase.in_force()).get_work(run_id) as work:
        sink, columns = open_sink(work.job.spec.sink, work.home, work.job.answer, os.environ)
        with work.ledger.page() as tx:
            parts = ledger_loads.unfinished(tx, work.run, sink.location)
        total = sum(_write(work, sink, columns, part) for part in parts)
        if may_load(work, clock=lambda: datetime.now(UTC)):
            while part := _next_part(work, sink):
                total += _write(work, sink, columns, part)
    return total


def _next_part(work: Work, sink: Sink) -> Load | None:
    rows = work.job.spec.sink.part_rows
    with work.ledger.page() as tx:
        return ledger_loads.begin(tx, work.run, sink.location, rows=rows, size=PART_BYTES, now=datetime.now(UTC))


def _write(work: Work, sink: Sink, columns: list[Column], part: Load) -> int:
    """One part, from the ledger to where it stands. Returns how many of its rows are loaded."""
    refused: list[Remark] = []
    with sink.writing(part.part) as out:
        work.ledger.check()  # another process may have had the sink for longer than our lease lasts
        with work.ledger.view() as tx:
            rivals = ledger_loads.rivals(tx, work.run, part, sink.location)
        superseded = _superseded(rivals, out)
        for rows in _pages(work, part):
            page = _as_page(work, columns, rows, part)
            bad = unfit(columns, page, [row.content for row in rows])
            refused += [Remark(rows[n].row_no, rows[n].turn, "unloadable", why) for n, why in bad.items()]
            out.write(without_rows(page, {n for n, row in enumerate(rows) if n in bad or row.row_key in superseded}))
        out.finish(rivals.older)
        with work.ledger.page() as tx:
            now, place = datetime.now(UTC), sink.location
            ledger_loads.finish(tx, work.run, part, place, superseded=superseded, unfit=refused, now=now)
    return part.rows - len(refused)


def _superseded(rivals: Rivals, out: Part) -> set[str]:
    """The keys that a later run has loaded: what it wrote stands."""
    found = {key for keys in rivals.newer.values() for key in keys}
    for part, keys in rivals.begun.items():
        found |= out.holds(part, keys)
    return found


def _pages(work: Work, part: Load) -> Iterator[list[Accepted]]:
    after = 0
    while True:
        with work.ledger.view() as tx:
            rows = ledger_loads.page_of(tx, work.run, part, after=after, limit=PAGE_ROWS)
        if not rows:
            return
        yield rows
        after = rows[-1].row_no


def _as_page(work: Work, columns: list[Column], rows: list[Accepted], part: Load) -> Page:
    keys, contents = [row.row_key for row in rows], [row.content for row in rows]
    if not work.job.spec.sink.lineage:
        return as_page(columns, keys, contents)
    tiers: list[str] = orjson.loads(work.run.tiers)
    said = [(work.run.run_id, tiers[r.tier], r.turn, r.cost_micro / MICRO, part.begun_at) for r in rows]
    return as_page(columns, keys, contents, **dict(zip(LINEAGE, map(list, zip(*said, strict=True)), strict=True)))

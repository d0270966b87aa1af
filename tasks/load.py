"""Accepted rows into the sink, exactly once."""

import os
from datetime import datetime

from blocks.ledger_database import LedgerDatabase
from rowtide import clock
from rowtide.gates.holding import may_load
from rowtide.ledger import ledger_loads
from rowtide.ledger.ledger_loads import Load
from rowtide.observing.happenings import happened
from rowtide.sinks.loading import load_part
from rowtide.sinks.sinks import Sink, open_sink
from rowtide.work import Work
from tasks.durable import durable

PART_BYTES = 64_000_000  # of answers: a part is in memory whole, once


@durable
async def load(run_id: str) -> int:
    """Finish the parts an earlier life began, then write the rest, if no gate holds it. Returns how many rows."""
    async with (await LedgerDatabase.in_force()).get_work(run_id) as work:
        sink, columns = open_sink(work.job.spec.sink, work.home, work.job.answer, os.environ, work.job.folder)
        with work.ledger.page() as tx:
            parts = ledger_loads.unfinished(tx, work.run, sink.location)
        total = sum(load_part(work, sink, columns, part, clock=_now) for part in parts)
        if may_load(work, clock=_now):
            while part := _next_part(work, sink):
                total += load_part(work, sink, columns, part, clock=_now)
        if total:
            known = {"run_id": run_id, "job": work.run.job, "rows": total, "sink": sink.location}
            happened("rows_loaded", f"{total:,} rows are written to {sink.location}", known)
    return total


def _next_part(work: Work, sink: Sink) -> Load | None:
    rows = work.job.spec.sink.part_rows
    with work.ledger.page() as tx:
        return ledger_loads.begin(tx, work.run, sink.location, rows=rows, size=PART_BYTES, now=_now())


def _now() -> datetime:
    return clock.now()

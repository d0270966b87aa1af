"""Accepted rows into the sink, exactly once."""

import os
from datetime import UTC, datetime

import orjson

from blocks.ledger_database import LedgerDatabase
from rowtide import ledger_loads
from rowtide.sinks import Sink, open_sink
from rowtide.work import Work
from tasks.durable import durable

PART_ROWS = 10_000


@durable
async def load(run_id: str) -> int:
    """Finish the parts an earlier life began, then write the rest. Returns how many rows were loaded."""
    total = 0
    async with LedgerDatabase.from_environment().get_work(run_id) as work:
        sink = open_sink(work.job.spec.sink, work.home, work.job.answer, os.environ)
        with work.ledger.view() as tx:
            parts = ledger_loads.unfinished(tx, work.run)
        while parts or (parts := _next_part(work, sink)):
            load_no, part = parts.pop(0)
            total += _write(work, sink, load_no, part)
    return total


def _next_part(work: Work, sink: Sink) -> list[tuple[int, str]]:
    with work.ledger.page() as tx:
        begun = ledger_loads.begin(tx, work.run, sink.location, limit=PART_ROWS, now=datetime.now(UTC))
    return [begun] if begun else []


def _write(work: Work, sink: Sink, load_no: int, part: str) -> int:
    with work.ledger.view() as tx:
        rows = ledger_loads.rows_of(tx, work.run, load_no)
        superseded = ledger_loads.superseded(tx, work.run, load_no, sink.location)
    records = [{"row_key": key, **orjson.loads(content)} for _, key, _, content in rows]
    sink.write_part(part, records, superseded)
    with work.ledger.page() as tx:
        ledger_loads.finish(tx, work.run, load_no, part, sink.location, rows, now=datetime.now(UTC))
    return len(rows)

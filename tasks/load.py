"""Loads accepted rows into the sink, exactly once."""

import os
from datetime import datetime

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.ledger import loads as ledger_loads
from rowtide.ledger.loads import Load
from rowtide.observing.event_log import log_event
from rowtide.sinks.sink import Sink
from rowtide.sinks.sinks import open_sink
from rowtide.stages.load.write_part import load_part
from rowtide.stages.run_context import RunContext
from rowtide.stages.validate.approval_checks import may_load

PART_BYTES = 64_000_000  # of answers: a part is held in memory whole


@durable
async def load(run_id: str) -> int:
    """Finish the parts that an earlier process began, then write the rest unless a gate holds it. Returns how many
    rows: none of an eval's.
    """
    async with (await LedgerSettings.in_force()).get_run_alone(run_id) as context:
        if context.run.eval_id:
            return 0  # its rows are compared, and go nowhere
        sink, columns = open_sink(
            context.job.spec.sink, context.home, context.job.answer, os.environ, context.job.folder
        )
        with context.ledger.page() as tx:
            parts = ledger_loads.unfinished_loads(tx, context.run, sink.location)
        total = sum(load_part(context, sink, columns, part, clock=_now) for part in parts)
        if may_load(context, clock=_now):
            while part := _next_part(context, sink):
                total += load_part(context, sink, columns, part, clock=_now)
        if total:
            known = {"run_id": run_id, "job": context.run.job, "rows": total, "sink": sink.location}
            log_event("rows_loaded", f"{total:,} rows are written to {sink.location}", known)
    return total


def _next_part(context: RunContext, sink: Sink) -> Load | None:
    rows = context.job.spec.sink.part_rows
    with context.ledger.page() as tx:
        return ledger_loads.begin_load(tx, context.run, sink.location, rows=rows, size=PART_BYTES, now=_now())


def _now() -> datetime:
    return clock.now()

"""Writes one part of a load to a sink, without the rows that the sink refuses.

Refused rows are quarantined in the ledger before the part is finished, so that writing it again after a kill writes the
same rows.
"""

from collections.abc import Iterator

import orjson

from rowtide.ledger import loads as ledger_loads
from rowtide.ledger.loads import AcceptedRow, CompetingParts, Load
from rowtide.ledger.rows import MoveReason
from rowtide.sinks.columns import LINEAGE, Column, SinkPage, page_of_answers, unloadable_rows
from rowtide.sinks.find_refused_rows import check_some_taken
from rowtide.sinks.sink import Part, Sink
from rowtide.stages.run_context import Clock, RunContext
from rowtide.tiers.pricing import MICRO

PAGE_ROWS = 5000


def load_part(context: RunContext, sink: Sink, columns: list[Column], part: Load, *, clock: Clock) -> int:
    """Write one part from the ledger to the sink. Returns how many of its rows are loaded."""
    with context.ledger.view() as tx:
        has_taken = ledger_loads.has_loaded_any_row(tx, context.run)
    with sink.writing(part.part, has_taken=has_taken) as out:
        context.ledger.check()  # another process may have had the sink for longer than our lease lasts
        with context.ledger.view() as tx:
            rivals = ledger_loads.competing_parts(tx, context.run, part, sink.location)
        superseded = _superseded(rivals, out)
        refused = _put(context, columns, part, out, superseded)
        if not has_taken:
            check_some_taken([why for _, why in refused], part.rows, sink.location)
        if refused:  # recorded before the part is finished: a finished part is not written again
            move_reasons = [MoveReason(row.row_no, row.turn, "unloadable", why) for row, why in refused]
            with context.ledger.page() as tx:
                part = ledger_loads.exclude_refused_rows(tx, context.run, part, move_reasons, now=clock())
        kept = {row.row_key for row, _ in refused}  # an earlier run's answers under these keys stay
        out.finish({older: keys - kept for older, keys in rivals.older.items()})
        with context.ledger.page() as tx:
            ledger_loads.finish_load(tx, context.run, part, sink.location, superseded=superseded, now=clock())
    return part.rows


def _put(
    context: RunContext, columns: list[Column], part: Load, out: Part, superseded: set[str]
) -> list[tuple[AcceptedRow, str]]:
    """Write a part's rows to the sink. Returns the refused rows, with the reason."""
    refused: list[tuple[AcceptedRow, str]] = []
    for rows in _pages(context, part):
        bad = unloadable_rows([row.content for row in rows])
        refused += [(rows[place], why) for place, why in bad.items()]
        good = [row for place, row in enumerate(rows) if place not in bad and row.row_key not in superseded]
        if good:
            refused += [(good[place], why) for place, why in out.write(_as_page(context, columns, good, part)).items()]
    return refused


def _superseded(rivals: CompetingParts, out: Part) -> set[str]:
    """Return the keys that a later run has loaded; its answers stay."""
    found = {key for keys in rivals.newer.values() for key in keys}
    for part, keys in rivals.begun.items():
        found |= out.keys_held(part, keys)
    return found


def _pages(context: RunContext, part: Load) -> Iterator[list[AcceptedRow]]:
    after = 0
    while True:
        with context.ledger.view() as tx:
            rows = ledger_loads.rows_of_load_page(tx, context.run, part, after=after, limit=PAGE_ROWS)
        if not rows:
            return
        yield rows
        after = rows[-1].row_no


def _as_page(context: RunContext, columns: list[Column], rows: list[AcceptedRow], part: Load) -> SinkPage:
    keys, contents = [row.row_key for row in rows], [row.content for row in rows]
    if not context.job.spec.sink.lineage:
        return page_of_answers(columns, keys, contents)
    tiers: list[str] = orjson.loads(context.run.tiers)
    origins = [(context.run.run_id, tiers[r.tier], r.turn, r.cost_micro / MICRO, part.begun_at) for r in rows]
    return page_of_answers(
        columns, keys, contents, **dict(zip(LINEAGE, map(list, zip(*origins, strict=True)), strict=True))
    )

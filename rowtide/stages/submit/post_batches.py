"""Packs ready rows into batches and posts them, so that none is ever paid for twice.

A create POST takes no label and no idempotency key. So the batch, its rows and a random tag in every custom_id are
committed before the POST. When the reply is lost, the API may have the batch or not: its rows are not sent again until
`rowtide/stages/wait/reconcile.py` knows.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from rowtide.agent.agent import RowAt
from rowtide.agent.outcome_policies import BATCHES
from rowtide.agent.requests import batch_request, custom_id
from rowtide.agent.states import RowState
from rowtide.api.api_outcomes import BatchCreated, BatchRefused, OutcomeUnknown
from rowtide.api.batch_packing import (
    COMMA_BYTES,
    ENVELOPE_BYTES,
    BatchLoad,
    BatchRoom,
    count_requests_that_fit,
    distinguishable_batch_size,
    is_batch_worth_packing,
)
from rowtide.api.claude import Claude
from rowtide.api.secret_placeholders import SealedBody, secret_placeholders
from rowtide.lanes.lane_table import BATCH
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.batches import Batch
from rowtide.ledger.rows import MoveReason
from rowtide.observing.event_log import log_event
from rowtide.stages.run_context import SPOOL_PAGE, Clock, RunContext
from rowtide.stages.submit.budget import BudgetExhausted, left_to_spend_micro
from rowtide.stages.submit.build_requests import RenderedPage, render_page
from rowtide.tracing import span

SHEDDABLE = 64  # how many of the last requests of a body can be removed again


def void_unsent_batches(context: RunContext, *, everything: bool = False) -> None:
    """Void batches whose body is unfinished or gone, or, with `everything`, all unsent ones; their rows become ready.

    Bodies and results that no batch needs any more are deleted: they hold customers' rows.
    """
    with context.ledger.page() as tx:
        for batch in ledger_batches.batches_in_states(tx, context.run, ["packing", "packed"]):
            if everything or batch.state == "packing" or not _lies_whole(context, batch):
                ledger_batches.mark_void(tx, batch, "never posted")
                ledger_rows.recall_rows_of_batch(tx, context.run, batch.batch_no)
        ledger_rows.recall_orphaned_rows(tx, context.run)
        kept = ledger_batches.batches_in_states(tx, context.run, ["packed", "posting", "open"])
    context.sweep_spool(keep={batch.tag for batch in kept})


def next_batch(context: RunContext, new_tag: Callable[[], str], *, clock: Clock) -> Batch | BudgetExhausted | None:
    """Return the batch to post next: one already packed, or a new one if the ready rows are worth it; else None."""
    if (batch := next(iter(context.batches("packed")), None)) is not None:
        return batch
    while _is_time_to_cut(context):
        if (batch := pack_batch(context, new_tag(), clock=clock)) is not None:
            return batch
    return None


def pack_batch(context: RunContext, tag: str, *, clock: Clock) -> Batch | BudgetExhausted | None:
    """Pack the next batch from ready rows.

    None means: try again. Every ready row proved unfit, or another run of the job has meanwhile reserved the money.
    """
    space = _space(context, clock())
    with context.ledger.page() as tx:
        batch_no = ledger_batches.begin_packing(tx, context.run, tag, now=clock())
    with body_file_of(context, tag).open("wb") as file:
        body = _Packing(file)
        # A server's credentials are filled in when the body is sent.
        sealed = (
            replace(context, environment=secret_placeholders(tag, context.environment)) if context.betas else context
        )
        budget_exhausted = _fill(sealed, tag, body, batch_no, space, clock)
        with context.ledger.page() as tx:
            ledger_rows.recall_rows(
                tx, body.shed_to(distinguishable_batch_size(body.load.rows, ledger_batches.unconfirmed_row_counts(tx)))
            )
            body.close()
            load, day_usd = body.load, context.job.spec.limits.day_usd
            left = ledger_batches.left_to_spend_micro(tx, context.run, day_usd, now=clock(), reserves=True)
            if is_borne := load.rows > 0 and (left is None or load.micro <= left):
                ledger_batches.mark_packed(tx, batch_no, rows=load.rows, size=load.bytes, reserved_micro=load.micro)
    if is_borne:
        return next(iter(context.batches("packed")), None)
    void_unsent_batches(context)
    return budget_exhausted


async def post_batch(
    context: RunContext, claude: Claude, batch: Batch, *, clock: Clock
) -> BatchCreated | BatchRefused | OutcomeUnknown:
    """Post a packed batch, once, and record the outcome. The intent is committed first."""
    newest = await claude.newest()
    body = SealedBody(body_file_of(context, batch.tag), batch.tag, context.environment if context.betas else None)
    with context.ledger.page() as tx:
        ledger_batches.record_post_intent(tx, batch.batch_no, newest_before=newest, now=clock())
    batch = replace(batch, state="posting")
    context.ledger.check()  # a process that froze after its intent must not wake up and post
    with span(
        "rowtide.post_batch", rowtide__run_id=context.run.run_id, rowtide__batch=batch.tag, rowtide__rows=batch.rows
    ):
        outcome = await claude.create_batch(body, context.betas)
    match outcome:
        case BatchCreated(status):
            with context.ledger.page() as tx:
                ledger_batches.mark_open(tx, batch.batch_no, status.api_id, adopted=False, now=clock())
            known = {
                "run_id": context.run.run_id,
                "job": context.run.job,
                "batch_id": status.api_id,
                "rows": batch.rows,
            }
            log_event("batch_sent", f"{batch.rows:,} rows sent in batch {status.api_id}", known)
        case OutcomeUnknown(detail):
            with context.ledger.page() as tx:
                ledger_batches.mark_unconfirmed(tx, batch.batch_no, detail, now=clock())
            known = {"run_id": context.run.run_id, "job": context.run.job, "tag": batch.tag, "rows": batch.rows}
            words = f"nobody knows whether a batch of {batch.rows:,} rows was taken: it is looked for"
            log_event("batch_unconfirmed", words, known, is_warning=True)
        case BatchRefused() if outcome.is_for_good:
            _take_back(context, batch, outcome, now=clock())
        case BatchRefused():
            with context.ledger.page() as tx:
                ledger_batches.return_to_packed(tx, batch.batch_no, outcome.message)
    if isinstance(outcome, BatchCreated) or (isinstance(outcome, BatchRefused) and outcome.is_for_good):
        body_file_of(context, batch.tag).unlink(missing_ok=True)
    return outcome


def body_file_of(context: RunContext, tag: str) -> Path:
    """Return the spool file that holds the request body of the batch with this tag."""
    return context.spool(f"{tag}.requests.json")


class _Packing:
    """A request body being written to disk, from which the last requests can be removed again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._last: deque[tuple[int, int, int]] = deque(maxlen=SHEDDABLE)  # (row_no, bytes, micro-dollars)
        self.load = BatchLoad()
        file.write(b'{"requests":[')

    def add(self, rows: Sequence[RowAt], requests: Sequence[bytes], costs: Sequence[int]) -> None:
        if not rows:
            return
        written = b",".join([b"", *requests] if self.load.rows else requests)
        self._file.write(written)
        held = self.load
        self.load = BatchLoad(held.rows + len(rows), held.bytes + len(written), held.micro + sum(costs))
        last = zip(rows[-SHEDDABLE:], requests[-SHEDDABLE:], costs[-SHEDDABLE:], strict=True)
        self._last.extend((row.row_no, len(each), cost) for row, each, cost in last)

    def shed_to(self, rows: int) -> list[int]:
        """Remove the last requests until `rows` are left. Returns the rows of the removed ones."""
        shed: list[int] = []
        while self.load.rows > rows and self._last:
            row_no, size, micro = self._last.pop()
            held, comma = self.load, COMMA_BYTES if self.load.rows > 1 else 0
            self.load = BatchLoad(held.rows - 1, held.bytes - comma - size, held.micro - micro)
            shed.append(row_no)
        self._file.seek(self.load.bytes - len(b"]}"))
        self._file.truncate()
        return shed

    def close(self) -> None:
        self._file.write(b"]}")
        self._file.flush()
        os.fsync(self._file.fileno())


def _fill(
    context: RunContext, tag: str, body: _Packing, batch_no: int, space: BatchRoom, clock: Clock
) -> BudgetExhausted | None:
    """Render ready rows into the body until it is full. Returns the exhausted budget, if that is why it is empty."""
    # With a budget limit, rows that have begun come first: half a conversation is money spent for nothing.
    for begun in (True, False) if space.micro is not None else (None,):
        after = 0
        while page := _ready_page(context, begun, after, space.rows - body.load.rows):
            after = page[-1].row_no
            rendered = render_page(context, page, lane=BATCH, now=clock())
            requests = [
                batch_request(custom_id(tag, row.row_no), of)
                for row, of in zip(rendered.rows, rendered.params, strict=True)
            ]
            sizes = [len(each) for each in requests]
            fits, budget_exhausted = count_requests_that_fit(sizes, rendered.costs, body.load, space), None
            if fits == 0 and body.load.rows == 0 and sizes:
                fits, budget_exhausted = _alone(context, rendered, sizes[0], space)
            with context.ledger.page() as tx:
                ledger_rows.put_in_batch(tx, batch_no, [row.row_no for row in rendered.rows[:fits]])
                ledger_rows.quarantine_rows(tx, rendered.unfit, now=clock())
            body.add(rendered.rows[:fits], requests[:fits], rendered.costs[:fits])
            if fits < len(sizes):
                return budget_exhausted
    return None


def _alone(
    context: RunContext, rendered: RenderedPage, size: int, space: BatchRoom
) -> tuple[int, BudgetExhausted | None]:
    """Return how many rows go when not even the first fits: 0 if it is too large or too expensive, else 1, alone."""
    if space.micro is not None and rendered.costs[0] > space.micro:
        return 0, BudgetExhausted(rendered.costs[0])
    if size + ENVELOPE_BYTES > context.job.spec.limits.batch_bytes:
        row = rendered.rows[0]
        detail = f"its request is {size:,} bytes; limits.batch_bytes is {context.job.spec.limits.batch_bytes:,}"
        rendered.unfit.append(MoveReason(row.row_no, row.turn, "too_large", detail))
        return 0, None
    return 1, None


def _space(context: RunContext, now: datetime) -> BatchRoom:
    """Return what the next body may hold by the job's limits, the size that the API refused, and the money left."""
    limits = context.job.spec.limits
    with context.ledger.view() as tx:
        refused = ledger_batches.smallest_refused_bytes(tx, context.run)
    size = min(limits.batch_bytes, refused // 2 if refused else limits.batch_bytes)
    return BatchRoom(limits.batch_rows, size, left_to_spend_micro(context, now=now))


def _lies_whole(context: RunContext, batch: Batch) -> bool:
    file = body_file_of(context, batch.tag)
    return file.is_file() and file.stat().st_size == batch.bytes


def _is_time_to_cut(context: RunContext) -> bool:
    with context.ledger.view() as tx:
        counts = ledger_rows.count_by_state(tx, context.run)
    return is_batch_worth_packing(
        ready=counts[RowState.READY],
        in_flight=counts[RowState.IN_FLIGHT] + counts[RowState.REPLIED],
        enough_rows=context.job.spec.limits.enough_rows,
    )


def _ready_page(context: RunContext, begun: bool | None, after: int, space: int) -> list[RowAt]:
    if space <= 0:
        return []
    with context.ledger.view() as tx:
        limit = min(SPOOL_PAGE, space)
        return ledger_rows.rows_page(tx, context.run, RowState.READY, after=after, limit=limit, begun=begun)


def _take_back(context: RunContext, batch: Batch, refused: BatchRefused, *, now: datetime) -> None:
    """Undo a batch whose body the API refuses for good. A body too large is halved; a row too large alone is
    quarantined.
    """
    with context.ledger.view() as tx:
        (only,) = ledger_rows.rows_waiting_for_batch(tx, context.run, batch.batch_no) if batch.rows == 1 else (None,)
    with context.ledger.page() as tx:
        if refused.is_too_large and only is not None:
            ledger_batches.mark_void(tx, batch, f"refused alone: {refused.message}")
            ledger_rows.quarantine_rows(tx, [MoveReason(only.row_no, only.turn, "too_large", refused.message)], now=now)
        else:
            halved = BATCHES["too_large"].reason
            ledger_batches.mark_void(tx, batch, halved if refused.is_too_large else f"refused: {refused.message}")
            ledger_rows.recall_rows_of_batch(tx, context.run, batch.batch_no)

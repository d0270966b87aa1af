"""Polls a run's open batches, fetches and files their results, and notices orphaned ones."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import anyio

from rowtide.api.claude import Claude
from rowtide.errors import IllegalMove
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import claims as ledger_claims
from rowtide.ledger.batches import Batch
from rowtide.ledger.ledger import Ledger, Run, find_run, from_timestamp
from rowtide.observing.event_log import log_event
from rowtide.stages.route.lane_choice import must_leave_batches
from rowtide.stages.run_context import Clock, RunContext
from rowtide.stages.wait.file_results import file_results
from rowtide.stages.wait.reconcile import hold_orphaned_batch
from rowtide.stages.work_shares import claim_polling

# How many polls, and how many times `confirm_within`, must find a batch or its results absent before it is orphaned.
FEWEST_POLLS = {"archived": 2, "deleted": 5, "no_results": 10}
CONFIRM_WITHIN_TIMES = {"archived": 1, "deleted": 4, "no_results": 8}
CANCELED = "canceled"  # a run's stop reason

Results = Path | str | None  # their file; or why there are none; None if the batch has not ended after all


class BatchPoller:
    """Polls the open batches in rounds, and remembers since when the API has not known one."""

    def __init__(self, context: RunContext, claude: Claude, *, confirm_within: timedelta, clock: Clock) -> None:
        self._context, self._claude, self._confirm_within, self._clock = context, claude, confirm_within, clock
        self._absent: dict[int, tuple[datetime, int]] = {}  # since when, and in how many polls

    async def round(self, *, polls: bool = True) -> Counter[str]:
        """Poll the open batches, unless another worker does, and file ended ones that no other worker files. Returns
        counts of rows by outcome.
        """
        done = Counter[str]()
        if polls:
            with claim_polling(self._context) as is_ours:
                done += await self._poll() if is_ours else Counter[str]()
        async with aclosing(self._fetched()) as fetched:
            async for batch, results in fetched:
                done += await self._act_on(batch, results)
        return done

    async def _fetched(self) -> AsyncGenerator[tuple[Batch, Results]]:
        """Yield ended batches that this worker claimed, with their results; the next results are fetched meanwhile."""
        in_hand: deque[tuple[Batch, asyncio.Future[Results]]] = deque()

        def take(*, after: int) -> None:
            if (batch := self._claim(after=after)) is not None:
                in_hand.append((batch, asyncio.ensure_future(self._fetch(batch))))

        try:
            take(after=0)
            while in_hand:
                batch, coming = in_hand[0]
                results = await coming
                take(after=batch.batch_no)
                yield batch, results
                self._let_go(in_hand.popleft()[0])
        finally:
            for _, coming in in_hand:
                coming.cancel()
            await asyncio.gather(*(coming for _, coming in in_hand), return_exceptions=True)
            for batch, _ in in_hand:
                self._let_go(batch)

    async def _poll(self) -> Counter[str]:
        """Poll every open batch once, and offer ended ones for filing."""
        context, done = self._context, Counter[str]()
        with context.ledger.view() as tx:
            is_canceled = find_run(tx, context.run.run_id).stopped == CANCELED
            ended = ledger_claims.offered_claims(tx, context.run, "batch")
        if is_canceled or must_leave_batches(context, now=self._clock()):
            await cancel_open_batches(context.ledger, context.run, self._claude, clock=self._clock)
        for batch in context.batches("open"):
            assert batch.api_id
            if batch.batch_no in ended:
                continue
            status = await self._claude.retrieve(batch.api_id)
            if status is None:
                done += await self._not_there(batch, "deleted")
            elif status.has_ended:
                with context.ledger.page() as tx:
                    ledger_claims.offer_claims(tx, context.run, "batch", [batch.batch_no])
            else:
                self._absent.pop(batch.batch_no, None)
        return done

    def _claim(self, *, after: int) -> Batch | None:
        context = self._context
        with context.ledger.page() as tx:
            while (
                number := ledger_claims.claim_next(tx, context.run, "batch", context.worker.name, after=after)
            ) is not None:
                batch = ledger_batches.batch_of(tx, number)
                if batch is not None and batch.state == "open":
                    return batch
                ledger_batches.release_batch(tx, context.run, number, context.worker.name)
                after = number
        return None

    def _let_go(self, batch: Batch) -> None:
        with self._context.ledger.page() as tx:
            ledger_batches.release_batch(tx, self._context.run, batch.batch_no, self._context.worker.name)

    async def _fetch(self, batch: Batch) -> Results:
        """Fetch the batch's results to disk, unless they are there."""
        assert batch.api_id
        spool = self._context.spool(f"{batch.tag}.results.jsonl")
        if batch.ended_at and spool.is_file():
            return spool
        status = await self._claude.retrieve(batch.api_id)
        if status is None:
            return "deleted"
        if not status.has_ended:
            return None
        if not await self._claude.spool_results(batch.api_id, spool):
            return "archived" if status.is_archived else "no_results"
        took = None if batch.cancel_asked_at else status.took_seconds  # how long it would have taken is unknown
        with self._context.ledger.page() as tx:
            ledger_batches.mark_ended(tx, batch.batch_no, took_seconds=took, now=self._clock())
        return spool

    async def _act_on(self, batch: Batch, results: Results) -> Counter[str]:
        if results is None:
            self._absent.pop(batch.batch_no, None)
            return Counter()
        if isinstance(results, str):
            return await self._not_there(batch, results)
        # In a thread, so that the next results can arrive meanwhile. A cancellation here waits for the thread.
        done = await anyio.to_thread.run_sync(partial(file_results, self._context, batch, results, now=self._clock()))
        results.unlink(missing_ok=True)  # `submit` deletes spool files that no open batch needs
        counts = ", ".join(f"{count:,} {name}" for name, count in done.items())
        run = self._context.run
        known = {"run_id": run.run_id, "job": run.job, "batch_id": batch.api_id, "rows": batch.rows}
        known |= {"outcomes": dict(done)}
        log_event("batch_filed", f"batch {batch.api_id} has ended and is filed: {counts}", known)
        return done

    async def _not_there(self, batch: Batch, kind: str) -> Counter[str]:
        """Handle a 404 for a batch or its results.

        A 404 may pass: after a create, at the end, or by mistake. The batch is orphaned only after several polls in a
        row, over some time, and if the list does not show it either.
        """
        since, looks = self._absent.get(batch.batch_no, (self._clock(), 0))
        self._absent[batch.batch_no] = since, looks + 1
        fewest, longest = FEWEST_POLLS[kind], CONFIRM_WITHIN_TIMES[kind] * self._confirm_within
        if looks + 1 < fewest or self._clock() - since <= longest:
            return Counter()
        if kind == "deleted" and await self._is_listed(batch):
            del self._absent[batch.batch_no]
            return Counter()
        hold_orphaned_batch(self._context, batch, kind)
        return Counter(held=batch.rows)

    async def _is_listed(self, batch: Batch) -> bool:
        since = from_timestamp(batch.newest_before) if batch.newest_before else None
        return batch.api_id in {each.api_id for each in await self._claude.list_since(since)}


async def cancel_open_batches(ledger: Ledger, run: Run, claude: Claude, *, clock: Clock) -> int:
    """Cancel a run's open batches: a person stopped the run, or they would be late. Returns how many were canceled."""
    with ledger.view() as tx:
        batches = ledger_batches.batches_in_states(tx, run, ["open"])
    return sum([await _cancel(ledger, claude, batch, clock()) for batch in batches if not batch.cancel_asked_at])


async def _cancel(ledger: Ledger, claude: Claude, batch: Batch, now: datetime) -> bool:
    """Cancel a batch, if it is still open. Records first that it was us. Returns whether it could be canceled."""
    assert batch.api_id
    try:
        with ledger.page() as tx:
            ledger_batches.record_cancel_request(tx, batch.batch_no, now=now)
    except IllegalMove:
        return False  # another process has just filed it
    await claude.cancel(batch.api_id)
    return True

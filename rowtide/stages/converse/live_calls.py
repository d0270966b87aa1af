"""Makes live calls: many rows at once, each in its own conversation, none waiting for another.

A row is recorded as in flight before its call is made, and its reply is filed before its next call. A process that dies
therefore repeats only the calls on the wire, and the ledger says which.
"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate
from typing import assert_never

from rowtide.agent.account_refusals import account_refusal_of
from rowtide.agent.agent import RowAt
from rowtide.agent.reply_parsing import Outcome, Replied, parse_api_error
from rowtide.agent.states import RowState
from rowtide.api.api_outcomes import NOT_SENT, LiveRejection, LiveReply, OutcomeUnknown
from rowtide.api.claude import Claude
from rowtide.errors import StoppedByJob, WorldError
from rowtide.lanes.lane_table import Lane
from rowtide.lanes.lanes import concurrent_calls
from rowtide.lanes.rate_limiter import RateLimiter
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import live_calls as ledger_live_calls
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.batches import Batch
from rowtide.ledger.ledger import to_timestamp
from rowtide.ledger.outcomes import file_outcomes
from rowtide.stages.run_context import Clock, RunContext
from rowtide.stages.submit.budget import BudgetExhausted
from rowtide.stages.submit.build_requests import render_page
from rowtide.stages.wait.decide_outcomes import (
    NOTHING_KNOWN,
    decide_outcomes,
    is_of_unknown_cost,
    will_be_quarantined,
)
from rowtide.stages.wait.unavailable_models import note_model_availability, note_overloaded_model
from rowtide.tiers.catalogue import Model

NO_ROOM = frozenset({NOT_SENT, 429, 503, 529})  # statuses that concern all callers, not this row
LONGEST_UNAVAILABILITY = timedelta(
    minutes=30
)  # how long the API may reject every call before the stage fails, to be tried again
NO_REPLY = "timeout_error"  # the error kind under which a lost reply is filed

OnText = Callable[[str, str], None]  # (row key, text that the model has just written)
Follow = Callable[[], Awaitable[int]]
LiveOutcome = LiveReply | LiveRejection | OutcomeUnknown


@dataclass(frozen=True, slots=True)
class LiveCall:
    """One call on the wire."""

    row: RowAt
    models: Sequence[Model]
    """The models that answered for each tier when the call was made."""
    reserved_micro: int
    started_at: datetime


class LiveCallPool:
    """The live calls of one process."""

    def __init__(
        self, context: RunContext, claude: Claude, lane: Lane, *, tag: str, clock: Clock, on_text: OnText | None
    ) -> None:
        self._context, self._claude, self._tag, self._clock, self._on_text = context, claude, tag, clock, on_text
        self._lane = lane
        with context.ledger.view() as tx:
            ready = ledger_rows.count_by_state(tx, context.run)[RowState.READY]
        self._limiter = RateLimiter(concurrent_calls(ready, context.job.spec.live.concurrency))
        self._calls: dict[asyncio.Future[LiveOutcome], LiveCall] = {}
        self._batch: Batch | None = None
        self._took: list[float] = []
        self._last_reply_at = clock()
        self._suspects: list[tuple[LiveCall, Outcome]] = []  # about to be quarantined, unless the fault is everyone's
        self._is_stopped = False
        self.budget_exhausted: BudgetExhausted | None = None

    async def run(self, follow: Follow) -> int:
        """Make calls while rows are ready or become so; `follow` moves replied rows on. Returns how many replies were
        filed.

        When the API refuses every request, it makes no more calls and stops the run in the ledger. Raises WorldError
        when the API has rejected all calls for too long.
        """
        filed, unfollowed = 0, True
        following: asyncio.Future[int] | None = None
        try:
            while True:
                if unfollowed and following is None and not self._is_stopped:
                    unfollowed, following = False, asyncio.ensure_future(follow())
                pause = self._start()
                if not (waiting := {*self._calls, *([following] if following else [])}):
                    if pause is not None:
                        await asyncio.sleep(pause)
                    elif self._suspects:
                        filed += self._judge(self._suspects)
                        unfollowed = True
                    else:
                        return filed
                    continue
                done, _ = await asyncio.wait(waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if following is not None and following in done:
                    with self._stopping():
                        following.result()
                    following = None
                if ended := [(self._calls.pop(task), task.result()) for task in list(self._calls) if task in done]:
                    filed += self._file(ended)
                    unfollowed = True
        finally:
            self._end(following)

    def _start(self) -> float | None:
        """Start as many calls as there is room for. Returns the seconds to wait if only the rate limit forbids the
        next.
        """
        if self._is_stopped:
            return None
        now = self._clock()
        if not (rows := self._ready(max(1, self._limiter.room(len(self._calls), now)))):
            return None
        if pause := self._limiter.pause_seconds(now):
            return pause
        if self._limiter.room(len(self._calls), now):
            with self._stopping():
                self._call(rows, now)
        return None

    @contextmanager
    def _stopping(self) -> Generator[None]:
        """When the job's own code stops the run, start no more calls; those on the wire are paid for, and are filed."""
        try:
            yield
        except StoppedByJob:
            self._is_stopped = True

    def _ready(self, limit: int) -> list[RowAt]:
        context = self._context
        if not self._lane.in_order:
            with context.ledger.view() as tx:
                return ledger_rows.rows_page(tx, context.run, RowState.READY, after=0, limit=limit)
        if context.job.spec.after is not None:
            with context.ledger.page() as tx:
                ledger_rows.quarantine_rows(
                    tx, ledger_live_calls.rows_after_quarantined(tx, context.run), now=self._clock()
                )
        with context.ledger.view() as tx:
            return ledger_live_calls.rows_that_may_go(tx, context.run, limit=limit)

    def _call(self, rows: list[RowAt], now: datetime) -> None:
        context = self._context
        rendered = render_page(context, rows, lane=self._lane, now=now)
        with context.ledger.page() as tx:
            day_usd = context.job.spec.limits.day_usd
            left = ledger_batches.left_to_spend_micro(tx, context.run, day_usd, now=now, reserves=True)
            fits = self._fits(rendered.costs, left)
            starting = list(zip(rendered.rows, rendered.params, rendered.costs, strict=True))[:fits]
            ledger_rows.quarantine_rows(tx, rendered.unfit, now=now)
            if starting and self._batch is None:
                batch_no = ledger_live_calls.begin_live_calls(tx, context.run, self._lane, self._tag, now=now)
                self._batch = ledger_batches.batch_of(tx, batch_no)
            if self._batch is not None:
                ledger_live_calls.start_calls(tx, self._batch.batch_no, {row.row_no: cost for row, _, cost in starting})
        for row, params, cost in starting:
            on_text = partial(self._on_text, row.row_key) if self._on_text else None
            call = asyncio.ensure_future(self._claude.create_message(params, context.betas, on_text))
            self._calls[call] = LiveCall(row, rendered.models, cost, now)

    def _fits(self, costs: list[int], left: int | None) -> int:
        """Return how many of the next calls the budgets allow. Notes an exhausted budget if none fits and none is on
        the wire.
        """
        fits = sum(reserved <= left for reserved in accumulate(costs)) if left is not None else len(costs)
        self.budget_exhausted = BudgetExhausted(costs[0]) if costs and not fits and not self._calls else None
        return fits

    def _file(self, ended: list[tuple[LiveCall, LiveOutcome]]) -> int:
        """File the outcomes of ended calls: replies and errors; rejected calls return their rows to ready."""
        assert self._batch is not None
        now = self._clock()
        away = [
            (call, api_reply)
            for call, api_reply in ended
            if isinstance(api_reply, LiveRejection) and _is_for_want_of_room(api_reply)
        ]
        turned = {call.row.row_no for call, _ in away}
        outcomes = [
            (call, self._outcome(call, api_reply, now)) for call, api_reply in ended if call.row.row_no not in turned
        ]
        with self._context.ledger.page() as tx:
            ledger_live_calls.return_rejected_calls(
                tx, self._batch.batch_no, {call.row.row_no: call.reserved_micro for call, _ in away}
            )
        done = self._apply(self._without_suspects(outcomes), now)
        for call, api_reply in away:
            self._turned_away(call, api_reply, now)
        return done

    def _without_suspects(self, outcomes: list[tuple[LiveCall, Outcome]]) -> list[tuple[LiveCall, Outcome]]:
        """Withhold outcomes that would quarantine rows, until a like row is answered or enough have failed alike."""
        spec = self._context.job.spec
        suspected = [each for each in outcomes if will_be_quarantined(spec, each[0].row, each[1])]
        answered = {self._about(call) for call, outcome in outcomes if isinstance(outcome, Replied)}
        self._suspects += suspected
        cleared = [each for each in self._suspects if self._about(each[0]) in answered]
        if not cleared and len(self._suspects) >= max(1, spec.limits.same_errors):
            cleared = self._suspects  # to be judged together
        self._suspects = [each for each in self._suspects if each not in cleared]
        return [each for each in outcomes if each not in suspected] + cleared

    def _about(self, call: LiveCall) -> tuple[int, int]:
        return self._context.asked(call.row), call.row.prefix_no

    def _judge(self, suspects: list[tuple[LiveCall, Outcome]]) -> int:
        """Apply the withheld outcomes: nothing else is left to wait for."""
        self._suspects = []
        return self._apply(suspects, self._clock())

    def _outcome(self, call: LiveCall, api_reply: LiveOutcome, now: datetime) -> Outcome:
        match api_reply:
            case LiveReply(outcome, allowance):
                self._took.append((now - call.started_at).total_seconds())
                self._last_reply_at = now
                usage = (isinstance(outcome, Replied) and outcome.usage) or NOTHING_KNOWN
                used = {"requests": 1, "input-tokens": usage.input_tokens, "output-tokens": usage.output_tokens}
                self._limiter.record_reply(allowance, used, now)
                return outcome
            case LiveRejection():
                if api_reply.status_code >= 500:
                    self._limiter.turned_away(api_reply.retry_after_seconds, now)
                return parse_api_error(api_reply.kind, api_reply.message)
            case OutcomeUnknown():
                self._limiter.turned_away(api_reply.retry_after_seconds, now)
                return replace(parse_api_error(NO_REPLY, api_reply.detail), is_billed=True)
            case _:
                assert_never(api_reply)

    def _apply(self, outcomes: list[tuple[LiveCall, Outcome]], now: datetime) -> int:
        """File outcomes, grouped by the models that were asked. Returns how many are replies."""
        return sum(self._apply_alike(models, same, now) for models, same in _by_models(outcomes))

    def _apply_alike(self, models: Sequence[Model], outcomes: list[tuple[LiveCall, Outcome]], now: datetime) -> int:
        context, batch = self._context, self._batch
        assert batch is not None
        rows = [(call.row, outcome) for call, outcome in outcomes]
        page = decide_outcomes(context, batch, models, rows, note_model_availability(context, models, rows, now=now))
        # Costs that nobody knows stay reserved.
        began = {call.row.row_no: to_timestamp(call.started_at) for call, _ in outcomes}
        page.replies = [reply._replace(asked_at=began[reply.row_no]) for reply in page.replies]
        known = sum(call.reserved_micro for call, outcome in outcomes if not is_of_unknown_cost(outcome))
        with context.ledger.page() as tx:
            file_outcomes(tx, context.run, context.escalation, batch, page, now=now)
            ledger_live_calls.end_calls(tx, batch.batch_no, known)
        self._is_stopped = self._is_stopped or page.stop is not None
        return len(page.replies)

    def _turned_away(self, call: LiveCall, api_reply: LiveRejection, now: datetime) -> None:
        """Slow down; fall back on another model, or raise WorldError if the API has rejected calls for too long."""
        self._limiter.turned_away(api_reply.retry_after_seconds, now)
        asked = self._context.asked(call.row)
        falls_back = api_reply.status_code == 529 and note_overloaded_model(
            self._context, asked, call.models[asked], now=now
        )
        if not falls_back and now - self._last_reply_at > LONGEST_UNAVAILABILITY:
            raise WorldError(
                f"the API rejects all calls: {api_reply.message}", retry_after_seconds=api_reply.retry_after_seconds
            )

    def _end(self, following: asyncio.Future[int] | None) -> None:
        """Cancel what goes on and close the record, unless calls are on the wire: the next process recovers those."""
        for going in [*self._calls, *([following] if following else [])]:
            going.cancel()
        if self._batch is not None and not self._calls and not self._suspects:
            took = statistics.median(self._took) if self._took else None
            with self._context.ledger.page() as tx:
                ledger_live_calls.close_live_calls(tx, self._batch.batch_no, call_seconds=took, now=self._clock())


def _is_for_want_of_room(api_reply: LiveRejection) -> bool:
    """Whether the API rejected the call for lack of capacity, not because of the row or the account."""
    return api_reply.status_code in NO_ROOM and account_refusal_of(api_reply.message) is None


def _by_models(
    outcomes: list[tuple[LiveCall, Outcome]],
) -> list[tuple[Sequence[Model], list[tuple[LiveCall, Outcome]]]]:
    """Group outcomes by the models that were asked; these change when a model becomes unavailable."""
    found: dict[tuple[str, ...], tuple[Sequence[Model], list[tuple[LiveCall, Outcome]]]] = {}
    for call, outcome in outcomes:
        key = tuple(model.id for model in call.models)
        found.setdefault(key, (call.models, []))[1].append((call, outcome))
    return list(found.values())

"""Submits ready rows in batches."""

import asyncio
import secrets
from datetime import datetime
from functools import partial

from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.agent.states import RunStop
from rowtide.api.api_outcomes import BatchRefused, OutcomeUnknown, refusal_text
from rowtide.api.claude import Claude
from rowtide.api.unconfirmed_batches import Wait
from rowtide.errors import StoppedByJob, StoppedByWorld, WorldError
from rowtide.ledger import live_calls as ledger_live_calls
from rowtide.ledger.batches import Batch
from rowtide.stages.amend.rows_to_version import adopt_run_version
from rowtide.stages.another_round import count_undecided_rows, stop_sending
from rowtide.stages.route.lane_choice import lane_of_ready_rows
from rowtide.stages.run_context import RunContext
from rowtide.stages.submit.budget import BudgetExhausted, exceeded_budget
from rowtide.stages.submit.post_batches import next_batch, post_batch, void_unsent_batches
from rowtide.stages.validate.approval_checks import may_send
from rowtide.stages.wait.reconcile import mark_unanswered_posts, reconcile_unconfirmed

LOOK_AGAIN_SECONDS = 1.0
REFUSALS = 8  # in a row, before the stage fails and is tried again
LONGEST_PAUSE_SECONDS = 60.0

_new_tag = partial(secrets.token_hex, 6)


@durable
async def submit(run_id: str) -> int:
    """Recover what an earlier process left, reconcile unconfirmed batches, then post new ones, as far as the budget
    goes.

    Rows of a live lane are left to `converse`, and all rows to another worker that is sending already. Returns how many
    rows are undecided: while there are any, the pump goes on.
    """
    database, credentials = await LedgerSettings.in_force(), await ClaudeSettings.in_force()
    async with database.get_run_if_free(run_id) as context, credentials.get_client(context.run) as claude:
        if not context.worker.is_alone or not may_send(context):
            return 0 if context.worker.is_alone else count_undecided_rows(context)
        why, next_micro = context.run.stopped, None
        with context.ledger.page() as tx:
            ledger_live_calls.recover_orphaned_calls(tx, context.run, now=_now())
        if why == RunStop.JOB_CODE:  # the job must be corrected first; the next process files what is at the API
            void_unsent_batches(context, everything=True)
            return 0
        goes_live = not lane_of_ready_rows(context, now=_now()).in_batches
        void_unsent_batches(context, everything=goes_live or why is not None)
        mark_unanswered_posts(context, clock=_now)
        try:
            await _reconcile_unconfirmed(context, claude, credentials)
            adopt_run_version(context, clock=_now)
            while not (goes_live or why) and (batch := next_batch(context, _new_tag, clock=_now)) is not None:
                if isinstance(batch, BudgetExhausted):
                    why, next_micro = exceeded_budget(context, batch.next_micro), batch.next_micro
                elif not await _post(context, claude, credentials, batch):
                    break
        except StoppedByWorld as refused:
            stop_sending(context, RunStop.REFUSED, str(refused))
        except StoppedByJob:
            void_unsent_batches(context, everything=True)
            return 0
        return count_undecided_rows(context, why, next_micro)


async def _reconcile_unconfirmed(context: RunContext, claude: Claude, credentials: ClaudeSettings) -> None:
    """Wait until the API lists every unconfirmed batch, or has had time to: nothing new is sent before."""
    while Wait(is_seen=False) in await reconcile_unconfirmed(
        context, claude, confirm_within=credentials.confirm_within, clock=_now
    ):
        await asyncio.sleep(min(LOOK_AGAIN_SECONDS, credentials.confirm_within_seconds))


async def _post(context: RunContext, claude: Claude, credentials: ClaudeSettings, batch: Batch) -> bool:
    """Post a batch. Returns False when the API has no room now, and open batches of ours whose end will make some."""
    for refusals in range(REFUSALS):
        outcome = await post_batch(context, claude, batch, clock=_now)
        match outcome:
            case OutcomeUnknown():
                await asyncio.sleep(outcome.retry_after_seconds or 0)
                await _reconcile_unconfirmed(context, claude, credentials)
                return True
            case BatchRefused() if outcome.is_everyones:
                raise StoppedByWorld(refusal_text(outcome.status_code, outcome.message))
            case BatchRefused() if not outcome.is_for_good:
                if context.batches("open"):
                    return False
                await asyncio.sleep(outcome.retry_after_seconds or min(2**refusals, LONGEST_PAUSE_SECONDS))
            case BatchRefused() if not outcome.is_too_large:
                raise StoppedByWorld(f"a batch was refused: {refusal_text(outcome.status_code, outcome.message)}")
            case _:
                return True
    raise WorldError(
        f"the API refused a batch of {batch.rows:,} rows {REFUSALS} times; it stays packed until the run goes on"
    )


def _now() -> datetime:
    return clock.now()

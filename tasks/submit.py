"""Ready rows into batches."""

import asyncio
import secrets
from datetime import datetime
from functools import partial

from blocks.claude_credentials import ClaudeCredentials
from blocks.ledger_database import LedgerDatabase
from rowtide import clock
from rowtide.amend.taking_up import take_up
from rowtide.api.api_outcomes import Refused, Unknown, refused_words
from rowtide.api.claude import Claude
from rowtide.api.doubt import Wait
from rowtide.api.settling import doubt_unanswered, settle
from rowtide.api.submission import next_batch, post, unpack
from rowtide.api.walls import Walled, wall_in_the_way
from rowtide.errors import StoppedByJob, StoppedByWorld, WorldError
from rowtide.gates.holding import may_send
from rowtide.lanes.choosing import lane_now
from rowtide.ledger import ledger_lanes
from rowtide.ledger.ledger_batches import Batch
from rowtide.ledger.states import RunStop
from rowtide.rounds import stop, undecided
from rowtide.work import Work
from tasks.durable import durable

LOOK_AGAIN_SECONDS = 1.0
REFUSALS = 8  # in a row, before the stage fails, to be tried again
LONGEST_PAUSE_SECONDS = 60.0

_new_tag = partial(secrets.token_hex, 6)


@durable
async def submit(run_id: str) -> int:
    """Settle what an earlier life left in doubt, then post the batches worth cutting, as far as the budget goes.

    Rows of a live lane are left to `converse`, and all rows to another worker that is sending already. Returns how many
    are still undecided: while there are any, the pump goes on.
    """
    database, credentials = await LedgerDatabase.in_force(), await ClaudeCredentials.in_force()
    async with database.get_work_if_free(run_id) as work, credentials.get_client(work.run) as claude:
        if not work.worker.is_alone or not may_send(work):
            return 0 if work.worker.is_alone else undecided(work)
        why, next_micro = work.run.stopped, None
        with work.ledger.page() as tx:
            ledger_lanes.end_lives(tx, work.run, now=_now())
        if why == RunStop.JOB_CODE:  # to be mended first: what is at the API is read by the next life
            unpack(work, everything=True)
            return 0
        goes_live = lane_now(work, now=_now()) != "batch"
        unpack(work, everything=goes_live or why is not None)
        doubt_unanswered(work, clock=_now)
        try:
            await _settle(work, claude, credentials)
            take_up(work, clock=_now)
            while not (goes_live or why) and (batch := next_batch(work, _new_tag, clock=_now)) is not None:
                if isinstance(batch, Walled):
                    why, next_micro = wall_in_the_way(work, batch.next_micro), batch.next_micro
                elif not await _post(work, claude, credentials, batch):
                    break
        except StoppedByWorld as refused:
            stop(work, RunStop.REFUSED, str(refused))
        except StoppedByJob:
            unpack(work, everything=True)
            return 0
        return undecided(work, why, next_micro)


async def _settle(work: Work, claude: Claude, credentials: ClaudeCredentials) -> None:
    """Wait until the API shows every batch in doubt, or has had time to: nothing new is sent before."""
    while Wait(is_seen=False) in await settle(work, claude, settle=credentials.settle, clock=_now):
        await asyncio.sleep(min(LOOK_AGAIN_SECONDS, credentials.settle_seconds))


async def _post(work: Work, claude: Claude, credentials: ClaudeCredentials, batch: Batch) -> bool:
    """Post a batch. False when the API has no room now, but batches of ours whose end will make some."""
    for refusals in range(REFUSALS):
        outcome = await post(work, claude, batch, clock=_now)
        match outcome:
            case Unknown():
                await asyncio.sleep(outcome.retry_after_seconds or 0)
                await _settle(work, claude, credentials)
                return True
            case Refused() if outcome.is_everyones:
                raise StoppedByWorld(refused_words(outcome.status_code, outcome.message))
            case Refused() if not outcome.is_for_good:
                if work.batches("open"):
                    return False
                await asyncio.sleep(outcome.retry_after_seconds or min(2**refusals, LONGEST_PAUSE_SECONDS))
            case Refused() if not outcome.is_too_large:
                raise StoppedByWorld(f"a batch was refused: {refused_words(outcome.status_code, outcome.message)}")
            case _:
                return True
    raise WorldError(f"the API refused a batch of {batch.rows:,} rows {REFUSALS} times; it lies packed")


def _now() -> datetime:
    return clock.now()

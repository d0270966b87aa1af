"""Waits until a batch has ended, and files its results."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta

from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from orchestration.publish_progress import publish_progress
from rowtide import clock
from rowtide.api.claude import Claude
from rowtide.api.unconfirmed_batches import Wait
from rowtide.errors import StoppedByWorld, WorldError
from rowtide.stages.orchestrator import current_orchestrator
from rowtide.stages.run_context import RunContext
from rowtide.stages.wait.poll_batches import BatchPoller
from rowtide.stages.wait.reconcile import reconcile_unconfirmed
from rowtide.stages.work_shares import has_other_workers, has_unclaimed_rows, may_more_come
from rowtide.stages.worker_lease import reap_dead

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_WITH_A_DEADLINE = 5.0
LONGEST_AMONG_OTHERS = 1.0  # seconds between looks at the ledger, where other workers may leave rows to act on
PAUSE_GROWS_BY = 1.5
FOR_EVER = timedelta(days=365)
LONGEST_UNAVAILABILITY = timedelta(
    minutes=30
)  # how long the API may be out of reach before the stage fails, to be tried again


@durable
async def wait(run_id: str) -> dict[str, int]:
    """Poll until rows have moved, a batch is reconciled, or the run's patience ends.

    Returns counts of rows by outcome and of reconciled batches; empty when nothing moved. Of many workers one polls;
    the others file what it finds, and go on as soon as another leaves rows to act on.
    """
    done: Counter[str] = Counter()
    credentials = await ClaudeSettings.in_force()
    async with (
        (await LedgerSettings.in_force()).get_shared_run(run_id) as context,
        credentials.get_client(context.run) as claude,
    ):
        collector = BatchPoller(context, claude, confirm_within=credentials.confirm_within, clock=_now)
        pause, reached_at, poll_at = FIRST_PAUSE_SECONDS, _now(), _now()
        longest = LONGEST_WITH_A_DEADLINE if context.run.finish_by else LONGEST_PAUSE_SECONDS
        until = reached_at + _patience(context, credentials.confirm_within)
        while may_more_come(context):
            polls, after = _now() >= poll_at, pause
            try:
                confirmed = polls and await _confirmed(context, claude, credentials.confirm_within)
                done = await collector.round(polls=polls)
                if polls:
                    reached_at = _now()
                if confirmed:
                    done["settled"] += 1
            except StoppedByWorld:
                raise
            except WorldError as error:
                if _now() - reached_at > LONGEST_UNAVAILABILITY:
                    raise
                polls, after = True, error.retry_after_seconds or pause
            if polls:
                poll_at = _now() + timedelta(seconds=after)
                pause = min(pause * PAUSE_GROWS_BY, longest)
            if has_unclaimed_rows(context):
                done["left"] += 1
            if done.total() or _now() >= until:
                break
            await publish_progress(context)
            reap_dead(context.ledger, run_id, context.worker.name)
            await asyncio.sleep(_pause(context, poll_at))
    return dict(done)


def _pause(context: RunContext, poll_at: datetime) -> float:
    """Return the seconds until the next look."""
    until_poll = max(0.0, (poll_at - _now()).total_seconds())
    return min(until_poll, LONGEST_AMONG_OTHERS) if has_other_workers(context) else until_poll


def _patience(context: RunContext, confirm_within: timedelta) -> timedelta:
    """Return how long to wait here: for ever, if nothing could start the run again or a deadline must be watched; else
    long enough for a batch that the API does not know to be declared orphaned.
    """
    if context.run.finish_by or not current_orchestrator().can_suspend:
        return FOR_EVER
    return max(timedelta(seconds=context.job.spec.limits.patience_seconds), 10 * confirm_within)


async def _confirmed(context: RunContext, claude: Claude, patience: timedelta) -> bool:
    """Return whether an unconfirmed batch was reconciled."""
    verdicts = await reconcile_unconfirmed(context, claude, confirm_within=patience, clock=_now)
    return any(not isinstance(each, Wait) for each in verdicts)


def _now() -> datetime:
    return clock.now()

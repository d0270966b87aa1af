"""Reconciles the unconfirmed batches of runs that no process works on."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.api.unconfirmed_batches import Wait
from rowtide.errors import LeaseLost, UserMistake
from rowtide.observing.event_log import logger
from rowtide.observing.recovery import Reconcile, Step
from rowtide.stages.wait.reconcile import mark_unanswered_posts, reconcile_unconfirmed

LONGEST_SECONDS = 60.0  # for one run: another process may have begun to work on it

log = logger(__name__)


@durable
async def reconcile_batches(steps: Sequence[Step]) -> int:
    """Look for batches whose POST was never answered. Returns how many were reconciled."""
    database = await LedgerSettings.in_force()
    reconciled = 0
    for run_id in [step.at.run_id for step in steps if isinstance(step, Reconcile)]:
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                reconciled += await _reconcile(database, run_id)
        except (TimeoutError, UserMistake, LeaseLost) as error:
            log.warning("the unconfirmed batches of run %s were not looked for: %s", run_id, error or "it is worked on")
    return reconciled


async def _reconcile(database: LedgerSettings, run_id: str) -> int:
    """Reconcile a run's batches. We hold its lease, so a POST without a reply will never get one."""
    credentials = await ClaudeSettings.in_force()
    async with database.get_run_alone(run_id) as context, credentials.get_client(context.run) as claude:
        mark_unanswered_posts(context, clock=_now)
        verdicts = await reconcile_unconfirmed(context, claude, confirm_within=credentials.confirm_within, clock=_now)
    return sum(not isinstance(each, Wait) for each in verdicts)


def _now() -> datetime:
    return clock.now()

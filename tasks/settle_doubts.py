"""The doubtful batches of runs that nobody works on."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from blocks.claude_credentials import ClaudeCredentials
from blocks.ledger_database import LedgerDatabase
from rowtide import clock
from rowtide.api.doubt import Wait
from rowtide.api.settling import doubt_unanswered, settle
from rowtide.errors import LeaseLost, UserMistake
from rowtide.observing.happenings import logger
from rowtide.parking.waking import Settle, Step
from tasks.durable import durable

LONGEST_SECONDS = 60.0  # for one run: somebody may have begun to work on it

log = logger(__name__)


@durable
async def settle_doubts(steps: Sequence[Step]) -> int:
    """Look for the batches whose POST was never answered. Returns how many are doubtful no more."""
    database = await LedgerDatabase.in_force()
    settled = 0
    for run_id in [step.at.run_id for step in steps if isinstance(step, Settle)]:
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                settled += await _settle(database, run_id)
        except (TimeoutError, UserMistake, LeaseLost) as error:
            log.warning("the doubtful batches of run %s were not looked for: %s", run_id, error or "it is worked on")
    return settled


async def _settle(database: LedgerDatabase, run_id: str) -> int:
    """Whoever has the lease is alone at work on a run: a POST without a reply will never have one."""
    credentials = await ClaudeCredentials.in_force()
    async with database.get_work(run_id) as work, credentials.get_client(work.run) as claude:
        doubt_unanswered(work, clock=_now)
        verdicts = await settle(work, claude, settle=credentials.settle, clock=_now)
    return sum(not isinstance(each, Wait) for each in verdicts)


def _now() -> datetime:
    return clock.now()

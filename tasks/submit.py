"""Ready rows into batches."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

from blocks.claude_credentials import ClaudeCredentials
from blocks.ledger_database import LedgerDatabase
from rowtide import ledger_rows
from rowtide.claude import Claude
from rowtide.packing import is_time_to_cut
from rowtide.states import RowState
from rowtide.submission import pack, post, recall_unposted, settle_doubtful
from rowtide.work import Work
from tasks.durable import durable

SETTLE = timedelta(seconds=20)  # how long the API may take to list a batch it has taken
LOOK_AGAIN_SECONDS = 2

UNDECIDED = (RowState.READY, RowState.IN_FLIGHT, RowState.REPLIED, RowState.ANSWERED)


@durable
async def submit(run_id: str) -> int:
    """Settle what an earlier life left in doubt, then post the batches worth cutting.

    Returns how many rows are still undecided: while there are any, the pump goes on.
    """
    with LedgerDatabase.from_environment().get_work(run_id) as work:
        recall_unposted(work)
        async with ClaudeCredentials.from_environment().get_client() as claude:
            await _settle(work, claude)
            while _is_time_to_cut(work):
                batch = pack(work, secrets.token_hex(6), clock=_now)
                if batch is not None and not await post(work, claude, batch, clock=_now):
                    await _settle(work, claude)
        counts = _counts(work)
        return sum(counts[state] for state in UNDECIDED)


async def _settle(work: Work, claude: Claude) -> None:
    """Wait until no batch is doubtful: nothing new is sent before."""
    while await settle_doubtful(work, claude, settle=SETTLE, clock=_now):
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _is_time_to_cut(work: Work) -> bool:
    counts = _counts(work)
    return is_time_to_cut(
        ready=counts[RowState.READY],
        in_flight=counts[RowState.IN_FLIGHT] + counts[RowState.REPLIED],
        enough_rows=work.job.spec.limits.enough_rows,
    )


def _counts(work: Work) -> dict[RowState, int]:
    with work.ledger.view() as tx:
        return ledger_rows.counts(tx, work.run)


def _now() -> datetime:
    return datetime.now(UTC)

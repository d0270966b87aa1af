"""Until some batch has ended."""

import asyncio
from collections import Counter
from datetime import UTC, datetime

from blocks.claude_credentials import ClaudeCredentials
from blocks.ledger_database import LedgerDatabase
from rowtide import ledger_batches
from rowtide.claude import BatchStatus, Claude
from rowtide.filing import file_results, is_ours
from rowtide.ledger_batches import Batch
from rowtide.work import Work
from tasks.durable import durable

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 60.0
PAUSE_GROWS_BY = 1.5


@durable
async def wait(run_id: str) -> dict[str, int]:
    """Poll until some batch has ended, and file its results. Returns how many rows replied, bounced, were rejected."""
    done: Counter[str] = Counter()
    pause = FIRST_PAUSE_SECONDS
    with LedgerDatabase.from_environment().get_work(run_id) as work:
        async with ClaudeCredentials.from_environment().get_client() as claude:
            while batches := _open(work):
                ended = [batch for batch in batches if batch.ended_at or await _has_ended(claude, batch)]
                for batch in ended:
                    done.update(await _collect(work, claude, batch))
                if ended:
                    break
                await asyncio.sleep(pause)
                pause = min(pause * PAUSE_GROWS_BY, LONGEST_PAUSE_SECONDS)
    return dict(done)


async def _has_ended(claude: Claude, batch: Batch) -> bool:
    assert batch.api_id
    status = await claude.retrieve(batch.api_id)
    return isinstance(status, BatchStatus) and status.status == "ended"


async def _collect(work: Work, claude: Claude, batch: Batch) -> Counter[str]:
    """Bring the results to disk, whole, then file them."""
    assert batch.api_id
    spool = work.spool(f"{batch.tag}.results.jsonl")
    if not batch.ended_at or not spool.is_file():
        await claude.spool_results(batch.api_id, spool)
        with work.ledger.page() as tx:
            ledger_batches.ended(tx, batch.batch_no, now=datetime.now(UTC))
    if not is_ours(batch, spool):
        spool.unlink()
        with work.ledger.page() as tx:
            ledger_batches.disown(tx, batch)
        return Counter()
    done = file_results(work, batch, spool, now=datetime.now(UTC))
    spool.unlink()
    return done


def _open(work: Work) -> list[Batch]:
    with work.ledger.view() as tx:
        return ledger_batches.batches_in(tx, work.run, ["open"])

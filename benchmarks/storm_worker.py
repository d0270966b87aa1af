"""What a worker does for the storm: goes on with runs that were begun, and flushes what waits. Until it is killed."""

import asyncio
import os
import sys
from contextlib import closing
from pathlib import Path

from flows.flush_inbox import flush_inbox
from flows.run_job import run_job
from rowtide.intake.sources import INBOX
from rowtide.ledger.ledger import Ledger, ledger_url


async def work(job: str) -> None:
    """Work for ever."""
    with closing(Ledger(ledger_url(None, Path(os.environ["ROWTIDE_HOME"])))) as ledger, ledger.view() as tx:
        begun = tx.exec_driver_sql("SELECT run_id FROM run WHERE finished_at IS NULL").scalars().all()
    for run_id in begun:
        await run_job(job, INBOX, run_id)
    while True:
        if await flush_inbox(job, at_least=1) is None:
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))

"""`rowtide cancel RUN`."""

import asyncio
import os
from datetime import UTC, datetime

from cli.existing_ledger import existing_ledger
from cli.pump import claude_server
from cli.say import out
from configuration.claude_settings import ClaudeSettings
from rowtide.api.which_api import check_same, in_environment
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.ledger import Ledger, Run
from rowtide.stages.wait.poll_batches import CANCELED, cancel_open


def cancel(run: str) -> int:
    """Send nothing more for a run and cancel its open batches. `rowtide resume RUN` goes on.

    Replies that were given are kept and paid for; rows the API had not come to cost nothing and wait.

    Parameters
    ----------
    run
        The run's id, as `rowtide runs` lists it.
    """
    now = in_environment(os.environ)
    with existing_ledger(run) as ledger:
        with ledger.page() as tx:
            found = ledgers.find_run(tx, run)
            check_same(found.run_id, found.api, now)
            ledgers.stop(tx, found, CANCELED)
        with claude_server():
            canceled = asyncio.run(_cancel_open(ledger, found))
    out.print(f"{canceled} open batches are being canceled; `rowtide resume {run}` files them and goes on")
    return 0


async def _cancel_open(ledger: Ledger, run: Run) -> int:
    async with ClaudeSettings.from_environment().get_client(run) as claude:
        return await cancel_open(ledger, run, claude, clock=lambda: datetime.now(UTC))

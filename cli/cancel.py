"""`rowtide cancel RUN`: send nothing more, and cancel the open batches."""

import asyncio
import os
from datetime import UTC, datetime

from cli.open_ledger import open_existing_ledger
from cli.output import out
from cli.shared_arguments import RunId
from cli.terminal_run import claude_or_emulator
from configuration.claude_settings import ClaudeSettings
from rowtide.api.api_identity import api_in_environment, check_same_api
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.ledger import Ledger, Run
from rowtide.stages.wait.poll_batches import CANCELED, cancel_open_batches


def cancel(run: RunId) -> int:
    """Send nothing more for a run and cancel its open batches. `rowtide resume RUN` goes on.

    Replies that were given are kept and paid for; rows the API had not come to cost nothing and wait.
    """
    now = api_in_environment(os.environ)
    with open_existing_ledger(run) as ledger:
        with ledger.page() as tx:
            found = ledgers.find_run(tx, run)
            check_same_api(found.run_id, found.api, now)
            ledgers.stop_run(tx, found, CANCELED)
        with claude_or_emulator():
            canceled = asyncio.run(_cancel_open(ledger, found))
    out.print(f"{canceled} open batches are being canceled; `rowtide resume {run}` files them and goes on")
    return 0


async def _cancel_open(ledger: Ledger, run: Run) -> int:
    async with ClaudeSettings.from_environment().get_client(run) as claude:
        return await cancel_open_batches(ledger, run, claude, clock=lambda: datetime.now(UTC))

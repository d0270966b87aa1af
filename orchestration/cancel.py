"""Cancels a run: nothing more is sent, and its open batches are canceled."""

from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from rowtide import clock
from rowtide.ledger import ledger as ledgers
from rowtide.stages.wait.poll_batches import CANCELED, cancel_open_batches


async def cancel(run_id: str) -> int:
    """Stop a run and cancel its open batches, as `rowtide cancel` does. Returns how many could be canceled.

    Finished rows are kept, and the run can be resumed.
    """
    with (await LedgerSettings.in_force()).get_ledger() as ledger:
        with ledger.view() as tx:
            run = ledgers.find_run(tx, run_id)
        async with (await ClaudeSettings.in_force()).get_client(run) as claude:
            with ledger.page() as tx:
                ledgers.stop_run(tx, run, CANCELED)
            return await cancel_open_batches(ledger, run, claude, clock=lambda: clock.now())

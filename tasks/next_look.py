"""Finds the rows of an eval that must be asked next."""

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide.stages.evaluate import rows_to_ask as stage
from rowtide.stages.evaluate.look_runs import ArmRun


@durable
async def next_look(eval_id: str) -> list[ArmRun] | None:
    """Return the runs that the next look needs; None where the eval has its verdict."""
    settings = await LedgerSettings.in_force()
    with settings.get_ledger() as ledger:
        return stage.next_look(ledger, settings.home, eval_id)

"""Parks a run that has waited too long for its batches, so that it leaves its worker."""

import secrets
from collections.abc import Mapping

from configuration.ledger_settings import LedgerSettings
from orchestration.name_run import name_run
from rowtide.observing.recovery import PARKED
from rowtide.stages.orchestrator import current_orchestrator


async def park(run_id: str, *, moved: Mapping[str, int]) -> None:
    """Suspend the run if nothing moved while it waited for batches: `resume_runs` wakes it.

    It goes on if nothing could wake it. Not durable: only a flow can suspend itself.
    """
    if moved or not current_orchestrator().can_suspend:
        return
    async with (await LedgerSettings.in_force()).get_run_alone(run_id) as context:
        if not context.batches("open", "posting"):
            return
    await name_run(context.run, "parked until a batch has ended")
    # Prefect ignores a suspension whose key it has seen, so each has its own.
    await current_orchestrator().suspend(f"{PARKED}{secrets.token_hex(8)}")

"""A run that outlives its patience leaves its worker."""

import secrets
from collections.abc import Mapping

from prefect.flow_runs import asuspend_flow_run

from blocks.ledger_database import LedgerDatabase
from rowtide.parking.waking import PARKED
from tasks.is_deployed import is_deployed


async def park(run_id: str, *, moved: Mapping[str, int]) -> None:
    """Suspend the flow run when nothing moved while its batches were waited for: `resume_runs` wakes it.

    Without a deployment nothing could start it again, so it goes on. No Prefect task: only a flow can suspend itself.
    """
    if moved or not is_deployed():
        return
    async with (await LedgerDatabase.in_force()).get_work(run_id) as work:
        if not work.batches("open", "posting"):
            return
    # Prefect passes over a suspension whose key it has seen, so each has its own.
    await asuspend_flow_run(key=f"{PARKED}{secrets.token_hex(8)}")

"""Cancels a run's batches when its flow run is canceled in Prefect."""

from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State

from configuration.ledger_settings import LedgerSettings
from orchestration.cancel import cancel
from rowtide.ledger import flow_runs as ledger_flow_runs


async def cancel_batches(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the run's open batches: a hook that Prefect calls when the flow run's process was stopped.

    If it is not called, because there was no process or no worker, `resume_runs` does the same.
    """
    with (await LedgerSettings.in_force()).get_ledger() as ledger, ledger.view() as tx:
        run = ledger_flow_runs.current_run_of_flow_run(tx, str(flow_run.id))
    if run is not None:
        await cancel(run.run_id)

"""Finds flow runs that a worker took and that have begun no run."""

from datetime import datetime

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from orchestration.time_since_heartbeat import time_since_heartbeat
from rowtide.ledger import flow_runs as ledger_flow_runs
from rowtide.ledger.ledger import Ledger
from rowtide.observing.recovery import RESTARTS_WITHIN, WORKER_CRASHED, UnfinishedRunStatus

AT_ONCE = 100  # flow runs per request to Prefect


async def find_orphans(client: PrefectClient, ledger: Ledger, now: datetime) -> list[UnfinishedRunStatus]:
    """Return the status of deployments' flow runs that have begun no run: their process may have died before.

    Flushes are left out: one that died so has claimed no rows, and is asked for again.
    """
    states = {"type": {"any_": ["PENDING", "RUNNING", "CRASHED"]}}
    newest = await client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["run_job", "evaluate_job"])),
        flow_run_filter=FlowRunFilter.model_validate({"state": states, "deployment_id": {"is_null_": False}}),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=AT_ONCE,
    )
    recent = [each for each in newest if each.created and each.created > now - RESTARTS_WITHIN]
    with ledger.view() as tx:
        begun = ledger_flow_runs.flow_runs_with_a_run(tx, [str(each.id) for each in recent])
    return [await _orphan(client, each, now) for each in recent if str(each.id) not in begun]


async def _orphan(client: PrefectClient, flow_run: FlowRun, now: datetime) -> UnfinishedRunStatus:
    assert flow_run.state is not None
    before = [each for each in await client.read_flow_run_states(flow_run.id) if each.name == "AwaitingRetry"]
    return UnfinishedRunStatus(
        run_id="",
        flow_run_id=str(flow_run.id),
        flow_state=flow_run.state.type.value,
        flow_state_id=str(flow_run.state.id),
        can_start=True,
        is_parked=False,
        lease="free",
        silent_for=await time_since_heartbeat(client, flow_run, now),
        opened={},
        unconfirmed=0,
        is_canceled=False,
        to_cancel=0,
        restarts=sum(each.message != WORKER_CRASHED for each in before),
        restarts_with_worker=sum(each.message == WORKER_CRASHED for each in before),
        crashed_with_worker=flow_run.state.message == WORKER_CRASHED,
    )

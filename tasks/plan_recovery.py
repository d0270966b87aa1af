"""Plans the recovery of unfinished runs: what each of them needs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import get_current_settings

from blocks.prefect_client import prefect_client
from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from orchestration.find_orphans import AT_ONCE, find_orphans
from orchestration.time_since_heartbeat import time_since_heartbeat
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import flow_runs as ledger_flow_runs
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger.flow_runs import UnfinishedRun
from rowtide.ledger.ledger import Ledger, from_timestamp
from rowtide.observing.recovery import (
    LOOK_BACK,
    PARKED,
    RESTARTS_WITHIN,
    WORKER_CRASHED,
    Step,
    UnfinishedRunStatus,
    longest_silence,
    recovery_steps,
)
from rowtide.stages.wait.poll_batches import CANCELED


@durable
async def plan_recovery() -> list[Step]:
    """Return the steps that unfinished runs need, by what the ledger, Prefect and the API say. Changes nothing."""
    now, api = datetime.now(UTC), await ClaudeSettings.name_in_force()
    with (await LedgerSettings.in_force()).get_ledger() as ledger:
        with ledger.view() as tx:
            found = ledger_flow_runs.unfinished_runs(tx, api, LOOK_BACK, RESTARTS_WITHIN, now=now)
        async with prefect_client() as client:
            flow_runs = {str(each.id): each for each in await _flow_runs(client, [each.flow_run_id for each in found])}
            orphans = await find_orphans(client, ledger, now)
            known = [
                await _status_of(client, ledger, each, flow_runs[each.flow_run_id], now)
                for each in found
                if each.flow_run_id in flow_runs
            ]
        unended = await _unended(ledger, found) if any(each.opened for each in known) else set[str]()
    silence = longest_silence(get_current_settings().flows.heartbeat_frequency)
    return [
        step for each in [*known, *orphans] for step in recovery_steps(each, unended=unended, silence=silence, now=now)
    ]


async def _flow_runs(client: PrefectClient, ids: Sequence[str]) -> list[FlowRun]:
    """Return the flow runs that this server knows: a run by the command line may have had another server."""
    found: list[FlowRun] = []
    for start in range(0, len(ids), AT_ONCE):
        these = FlowRunFilter(id=FlowRunFilterId.model_validate({"any_": ids[start : start + AT_ONCE]}))
        found += await client.read_flow_runs(flow_run_filter=these)
    return found


async def _status_of(
    client: PrefectClient, ledger: Ledger, unfinished: UnfinishedRun, flow_run: FlowRun, now: datetime
) -> UnfinishedRunStatus:
    run, at = unfinished.run, flow_run.state
    assert at is not None
    with ledger.view() as tx:
        batches = ledger_batches.batches_in_states(tx, run, ["open", "posting"])
        lease = ledger_leases.lease_state(tx, run.run_id, now=now)
    opened = {each.api_id: from_timestamp(each.opened_at) for each in batches if each.api_id and each.opened_at}
    is_unconfirmed = at.type.value in ("RUNNING", "CANCELLING") and lease in ("free", "expired")
    silence_counts = is_unconfirmed or at.type.value in ("CRASHED", "PENDING")
    return UnfinishedRunStatus(
        run_id=run.run_id,
        flow_run_id=unfinished.flow_run_id,
        flow_state=at.type.value,
        flow_state_id=str(at.id),
        can_start=flow_run.deployment_id is not None,
        is_parked=(at.state_details.pause_key or "").startswith(PARKED),
        lease=lease,
        silent_for=await time_since_heartbeat(client, flow_run, now) if silence_counts else timedelta(),
        opened=opened,
        unconfirmed=sum(each.state == "posting" for each in batches),
        is_canceled=run.stopped == CANCELED,
        to_cancel=sum(each.state == "open" and not each.cancel_asked_at for each in batches),
        restarts=unfinished.restarts,
        restarts_with_worker=unfinished.restarts_with_worker,
        crashed_with_worker=at.message == WORKER_CRASHED,
    )


async def _unended(ledger: Ledger, found: Sequence[UnfinishedRun]) -> set[str]:
    """Return the ids of these runs' batches that the API still works on, from one list."""
    with ledger.view() as tx:
        batches = [batch for each in found for batch in ledger_batches.batches_in_states(tx, each.run, ["open"])]
    oldest = None if any(each.newest_before is None for each in batches) else min(str(b.newest_before) for b in batches)
    async with (await ClaudeSettings.in_force()).get_client() as claude:
        listed = await claude.list_since(from_timestamp(oldest) if oldest else None)
    return {each.api_id for each in listed if not each.has_ended}

"""Checks a Prefect server for `rowtide doctor`: deployments, workers, and runs that nobody started in time."""

from datetime import UTC, datetime, timedelta

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from cli.prefect_server import find_login
from rowtide.errors import WorldError
from rowtide.stages.diagnose.findings import Finding

LATE_AFTER = timedelta(minutes=5)
DEAD_AFTER = timedelta(minutes=2)  # a worker sends a heartbeat every half a minute
WORKER = "prefect worker start --pool POOL, or make serve"


async def examine_prefect_server(url: str) -> list[Finding]:
    """Check deployments, work pools without a worker, and late runs. Raises WorldError when the server
    does not answer.
    """
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: find_login()}):
        try:
            async with get_client() as client:
                found = [await _deployments(client), *await _work_pools(client), await _late_runs(client)]
                return found + await _stuck_slots(client)
        except (httpx.HTTPError, PrefectException) as error:
            raise WorldError(f"Prefect's server did not answer as it should: {error}") from error


async def _deployments(client: PrefectClient) -> Finding:
    names = sorted(each.name for each in await client.read_deployments())
    if not names:
        return Finding("deployments", "warning", "there are none: nothing is scheduled", "prefect deploy --all")
    return Finding("deployments", "ok", f"{len(names)}: {', '.join(names[:6])}")


async def _work_pools(client: PrefectClient) -> list[Finding]:
    found: list[Finding] = []
    for pool in await client.read_work_pools():
        workers = await client.read_workers_for_work_pool(pool.name)
        alive = [w for w in workers if w.last_heartbeat_time and datetime.now(UTC) - w.last_heartbeat_time < DEAD_AFTER]
        words = f"{len(alive)} workers of {len(workers)} live"
        subject = f"work pool {pool.name}"
        found.append(Finding(subject, "ok", words) if alive else Finding(subject, "warning", words, WORKER))
    return found


async def _late_runs(client: PrefectClient) -> Finding:
    late = FlowRunFilter.model_validate({"state": {"name": {"any_": ["Late"]}}})
    runs = await client.read_flow_runs(flow_run_filter=late, limit=200)
    due = [run for run in runs if run.expected_start_time and datetime.now(UTC) - run.expected_start_time > LATE_AFTER]
    if due:
        words = f"{len(due)} are late by more than {LATE_AFTER.seconds // 60} minutes, such as {due[0].name}"
        return Finding("flow runs", "warning", words, "start a worker, or free the slots of its work pool")
    return Finding("flow runs", "ok", "none is late")


async def _stuck_slots(client: PrefectClient) -> list[Finding]:
    """Name the concurrency limits all of whose slots are taken while no flow run is running: whoever took them died."""
    limits = await client.read_global_concurrency_limits(limit=200, offset=0)
    full = [
        each for each in limits if each.limit and each.active_slots >= each.limit and not each.slot_decay_per_second
    ]
    running = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}})
    if not full or await client.read_flow_runs(flow_run_filter=running, limit=1):
        return []
    return [
        Finding(
            f"limit {each.name}",
            "warning",
            f"all {each.limit} slots are taken, and no flow run is running",
            f"prefect global-concurrency-limit update {each.name} --active-slots 0",
        )
        for each in full
    ]

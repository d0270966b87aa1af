"""`python -m deploy.worker`: a worker of Prefect's, once its server is ready and knows what died with the last worker.

A worker that is killed takes its flow runs along, and nobody is left to say so: Prefect would show them as running, or
about to, for ever, and would keep their concurrency slots. They are told to be crashed, and the watch is sent for.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.states import Crashed

from cli.output import err
from deploy.prefect_server import LOOK_SECONDS, POOL, is_ready
from rowtide.observing.recovery import WORKER_CRASHED

WATCH = "resume_runs/resume-runs"
WORKER = "prefect.worker.name"  # the label that a worker gives its flow runs
LABELS_WITHIN = timedelta(seconds=30)
AT_ONCE = 200


def main() -> None:
    name = f"rowtide-{socket.gethostname()}"
    url = str(get_current_settings().api.url)
    while not is_ready(url):
        time.sleep(LOOK_SECONDS)
    if dead := asyncio.run(tell_of_dead(name)):
        err.print(f"{dead} flow runs died with the last worker: the watch goes on with them", markup=False)
    start = ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", name]
    os.execv(sys.executable, [sys.executable, *start])


async def tell_of_dead(worker: str) -> int:
    """Tell Prefect which flow runs died with the worker of this name, which is about to start. Returns how many."""
    async with get_client() as client:
        now = datetime.now(UTC)
        dead = [each async for each in _at_work(client) if died_with(each, worker, now)]
        for each in dead:
            await client.set_flow_run_state(each.id, Crashed(message=WORKER_CRASHED), force=True)
        if dead:
            await _send_for_watch(client)
    return len(dead)


def died_with(flow_run: FlowRun, worker: str, now: datetime) -> bool:
    """Whether a flow run that Prefect takes to be at work, or about to, was this worker's, which is dead.

    A worker labels what it has taken within seconds: what has no label by then was taken by one that died over it.
    """
    if name := flow_run.labels.get(WORKER):
        return name == worker
    assert flow_run.state is not None
    is_pending = flow_run.deployment_id is not None and flow_run.state.type == StateType.PENDING
    return is_pending and now - flow_run.state.timestamp > LABELS_WITHIN


async def _at_work(client: PrefectClient) -> AsyncGenerator[FlowRun]:
    """All flow runs that Prefect takes to be running or about to."""
    states = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    offset = 0
    while page := await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=states)), limit=AT_ONCE, offset=offset
    ):
        offset += len(page)
        for each in page:
            yield each


async def _send_for_watch(client: PrefectClient) -> None:
    """Its next turn may be minutes away, and the one that was at work may have died too."""
    try:
        watch = await client.read_deployment_by_name(WATCH)
    except ObjectNotFound:
        return
    await client.create_flow_run_from_deployment(watch.id)


if __name__ == "__main__":
    main()

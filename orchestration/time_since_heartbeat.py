"""Measures how long ago a flow run gave its last sign of life."""

from datetime import datetime, timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter

from rowtide.observing.recovery import LOOK_BACK


async def time_since_heartbeat(client: PrefectClient, flow_run: FlowRun, now: datetime) -> timedelta:
    """Return the time since the newest heartbeat or state of a flow run."""
    assert flow_run.state is not None
    heartbeats = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{flow_run.id}"]),
        occurred=EventOccurredFilter.model_validate({"since": now - LOOK_BACK}),
    )
    newest = (await client.read_events(heartbeats, limit=1)).events
    return now - max([flow_run.state.timestamp, *(each.occurred for each in newest)])

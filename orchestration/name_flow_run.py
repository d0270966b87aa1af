"""Names and tags flow runs, so that people and automations can tell them apart."""

from collections.abc import Mapping
from uuid import UUID

from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from blocks.prefect_client import prefect_client

OURS = "rowtide"  # the tag by which automations find our flow runs


async def name_flow_run(words: str, labels: Mapping[str, str | None]) -> None:
    """Rename the flow run, and give it a tag `label:value` for each label; None removes a tag."""
    tags = {OURS, *(tag for tag in flow_run.tags if tag.partition(":")[0] not in labels)}
    tags |= {f"{label}:{value}" for label, value in labels.items() if value is not None}
    async with prefect_client() as client:
        answer = await client.update_flow_run(UUID(str(flow_run.id)), name=words, tags=sorted(tags))
        answer.raise_for_status()
    if context := FlowRunContext.get():
        assert context.flow_run
        context.flow_run.name, context.flow_run.tags = words, sorted(tags)

"""Updates a run's progress artifact in Prefect."""

from uuid import UUID

from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.runtime import flow_run

from blocks.prefect_client import prefect_client

KEY = "run-progress"


async def update_progress_artifact(percent: float, words: str) -> None:
    """Update the flow run's progress artifact: one for each flow run, written only when the text changed."""
    this = ArtifactFilterFlowRunId(any_=[UUID(str(flow_run.id))])
    async with prefect_client() as client:
        mine = ArtifactFilter(key=ArtifactFilterKey(any_=[KEY]), flow_run_id=this)
        found = await client.read_artifacts(artifact_filter=mine, limit=1)
    if not found:
        await acreate_progress_artifact(percent, key=KEY, description=words)
    elif found[0].description != words:
        await aupdate_progress_artifact(found[0].id, progress=percent, description=words)

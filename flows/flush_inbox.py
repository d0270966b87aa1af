"""Runs a job over the rows that webhooks left in its inbox."""

from functools import partial
from typing import Any

from prefect import flow

from flows.pump import pump
from flows.when_permitted import when_permitted
from orchestration.initial_flow_run_name import initial_flow_run_name
from orchestration.under_prefect import under_prefect
from rowtide.errors import VersionStopped
from rowtide.intake.sources import INBOX
from rowtide.stages.orchestrator import current_orchestrator
from tasks.claim_inbox import claim_inbox


@flow(name="flush_inbox", flow_run_name=initial_flow_run_name, persist_result=False)
async def flush_inbox(
    job: str | None = None, at_least: int = 1, older_than_seconds: float | None = None
) -> dict[str, Any] | None:
    """Take the rows that wait in a job's inbox to its sink; ends quietly when too little waits.

    No row is ever in two flushes, however many run at once. Started again, it goes on with the rows it took.

    Args:
        job: A name under jobs/, or a folder that holds a job.yaml; by default the job that has waited longest.
        at_least: Do nothing for fewer rows.
        older_than_seconds: Do nothing unless the oldest of them has waited so long.
    """
    with under_prefect():
        try:
            claimed = await when_permitted(partial(claim_inbox, job, at_least, older_than_seconds))
        except VersionStopped as stopped:  # a person knows; the rows wait, and are announced again
            await current_orchestrator().name(f"inbox: rows wait: {stopped}")
            return None
        if claimed is None:
            return None
        folder, run_id = claimed
        return await pump(folder, INBOX, run_id)

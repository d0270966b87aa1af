"""How far a run has come, on its page in Prefect."""

import logging

from httpx import HTTPError
from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from blocks.prefect_client import prefect_client
from rowtide.ledger.ledger import find_run
from rowtide.ledger.ledger_glance import Glance, glance
from rowtide.work import Work

KEY = "run-progress"

log = logging.getLogger(__name__)


async def progress(work: Work) -> None:
    """Bring the run's progress artifact up to date: one for each flow run, and written only when something changed.

    It counts settled rows and nothing else. A Prefect that cannot be reached is no reason to stop a run.
    """
    if (flow_run_id := flow_run.id) is None:
        return
    with work.ledger.view() as tx:
        seen = glance(tx, find_run(tx, work.run.run_id))
    share, words = round(100 * seen.share, 1), _words(seen)
    mine = ArtifactFilter(key=ArtifactFilterKey(any_=[KEY]), flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    try:
        async with prefect_client() as client:
            found = await client.read_artifacts(artifact_filter=mine, limit=1)
        if not found:
            await acreate_progress_artifact(share, key=KEY, description=words)
        elif found[0].description != words:
            await aupdate_progress_artifact(found[0].id, progress=share, description=words)
    except (HTTPError, PrefectException) as error:
        log.info("Prefect was not told how far run %s has come: %s", work.run.run_id, error)


def _words(seen: Glance) -> str:
    return f"{seen.settled:,} of {seen.rows:,} rows settled ({seen.standing}); {seen.at_api()}; {seen.money}"

"""Asks for drift checks of jobs that are due for one."""

from datetime import datetime
from pathlib import Path

from prefect.exceptions import ObjectNotFound

from blocks.prefect_client import prefect_client
from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.observing.event_log import logger
from rowtide.stages.evaluate.due_drift_checks import due_drift_checks
from rowtide.stages.job_objectives import folders_of_jobs

DEPLOYMENT = "evaluate_job/evaluate"

log = logger(__name__)


@durable
async def request_drift_checks() -> int:
    """Ask for a flow run of the deployment `evaluate` for each job that is due. Returns how many are.

    One a day for a job, however often it is asked for: a check that fails at once would be due again at once.
    """
    now, api = clock.now(), await ClaudeSettings.name_in_force()
    with (await LedgerSettings.in_force()).get_ledger() as ledger:
        due = due_drift_checks(ledger, folders_of_jobs(ledger, Path("jobs")), api, now=now)
    for folder in due:
        await _request(folder, now)
    return len(due)


async def _request(folder: Path, now: datetime) -> None:
    async with prefect_client() as client:
        try:
            deployment = await client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            log.warning("%s is due for a drift check, and Prefect has no deployment %s", folder.name, DEPLOYMENT)
            return
        await client.create_flow_run_from_deployment(
            deployment.id,
            name=f"{folder.name}: drift check",
            parameters={"job": str(folder), "drift": True, "who": "the watch"},
            idempotency_key=f"rowtide drift {folder} {now:%Y-%m-%d}",
        )

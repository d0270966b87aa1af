"""Names the orchestrator's record of work on a run."""

from rowtide.ledger.ledger import Run
from rowtide.observing.run_labels import run_labels, run_title
from rowtide.stages.orchestrator import current_orchestrator


async def name_run(run: Run, status: str = "") -> None:
    """Name the orchestrator's record of this process's work after the run and its status, with the run's labels."""
    known = run_labels(run.job, run.run_id, run.owner, run.runbook)
    await current_orchestrator().name(run_title(run.job, run.run_id, status), known)

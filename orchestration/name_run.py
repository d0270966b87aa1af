"""A run's own name and labels, for whatever works on it now."""

from rowtide.ledger.ledger import Run
from rowtide.observing.run_labels import run_labels, run_title
from rowtide.stages.orchestrator import current_orchestrator


async def name_run(run: Run, status: str = "") -> None:
    """Call the orchestrator's record of this process's work by the run, and by what there is to say of it."""
    known = run_labels(run.job, run.run_id, run.owner, run.runbook)
    await current_orchestrator().name(run_title(run.job, run.run_id, status), known)

"""A run's own name and labels, for whatever works on it now."""

from rowtide.ledger.ledger import Run
from rowtide.observing.run_labels import labels, title
from rowtide.stages.orchestrator import orchestrator


async def name_run(run: Run, said: str = "") -> None:
    """Call the orchestrator's record of this process's work by the run, and by what there is to say of it."""
    known = labels(run.job, run.run_id, run.owner, run.runbook)
    await orchestrator().name(title(run.job, run.run_id, said), known)

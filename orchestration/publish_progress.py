"""Publishes a run's progress where the orchestrator shows it."""

from rowtide.ledger.ledger import find_run
from rowtide.ledger.read.progress import Progress, read_progress
from rowtide.stages.orchestrator import current_orchestrator
from rowtide.stages.run_context import RunContext


async def publish_progress(context: RunContext) -> None:
    """Publish the run's progress: the share of its rows that are settled."""
    with context.ledger.view() as tx:
        seen = read_progress(tx, find_run(tx, context.run.run_id))
    await current_orchestrator().show_progress(round(100 * seen.share, 1), _words(seen))


def _words(seen: Progress) -> str:
    return f"{seen.settled:,} of {seen.rows:,} rows settled ({seen.standing}); {seen.at_api()}; {seen.money}"

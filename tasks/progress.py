"""How far a run has come, where the orchestrator shows it."""

from rowtide.ledger.ledger import find_run
from rowtide.ledger.ledger_glance import Glance, glance
from rowtide.orchestrator import orchestrator
from rowtide.work import Work


async def progress(work: Work) -> None:
    """Bring the run's progress up to date. It counts settled rows and nothing else."""
    with work.ledger.view() as tx:
        seen = glance(tx, find_run(tx, work.run.run_id))
    await orchestrator().show_progress(round(100 * seen.share, 1), _words(seen))


def _words(seen: Glance) -> str:
    return f"{seen.settled:,} of {seen.rows:,} rows settled ({seen.standing}); {seen.at_api()}; {seen.money}"

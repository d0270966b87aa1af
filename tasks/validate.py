"""The answers gate."""

from blocks.ledger_database import LedgerDatabase
from rowtide import clock
from rowtide.gates.validating import judge_answers
from rowtide.work import load_gate
from tasks.durable import durable


@durable
async def validate(run_id: str) -> dict[str, int]:
    """Judge answered rows, as far as no other worker does: accepted, one tier up, or set aside. Returns how many."""
    async with (await LedgerDatabase.in_force()).get_share(run_id) as work:
        return dict(judge_answers(work, load_gate(work.job), clock=lambda: clock.now()))

"""A first tier for each row."""

from blocks.ledger_database import LedgerDatabase
from rowtide import ledger_rows
from tasks.durable import durable


@durable
async def route(run_id: str) -> int:
    """Put every ready row that has no tier on the ladder's lowest rung. Returns how many."""
    async with LedgerDatabase.from_environment().get_work(run_id) as work:
        with work.ledger.page() as tx:
            return ledger_rows.route(tx, work.run, tier=0)

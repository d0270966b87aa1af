"""What each reply asks for: tools, a correction, a second look, the next tier; or it is an answer."""

from blocks.ledger_database import LedgerDatabase
from rowtide import clock
from rowtide.agent.following import follow
from rowtide.errors import StoppedByJob
from rowtide.work import tool_pool
from tasks.durable import durable


@durable
async def follow_up(run_id: str) -> int:
    """Take replied rows one move further, page by page, as far as no other worker does. Returns how many moved."""
    async with (
        (await LedgerDatabase.in_force()).get_share(run_id) as work,
        tool_pool(work.job, work.environment, work.servers) as pool,
    ):
        try:
            return await follow(work, pool, clock=lambda: clock.now())
        except StoppedByJob:
            return 0  # the ledger says why, and `submit` ends the run

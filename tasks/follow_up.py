"""Follows up each reply: with tool calls, a correction, a self-check, the next tier, or an answer."""

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.errors import StoppedByJob
from rowtide.stages.follow_up.apply_moves import follow_up_rows
from rowtide.stages.run_context import open_tool_pool


@durable
async def follow_up(run_id: str) -> int:
    """Move replied rows one step on, page by page, unless another worker does. Returns how many moved."""
    async with (
        (await LedgerSettings.in_force()).get_shared_run(run_id) as context,
        open_tool_pool(context.job, context.environment, context.servers) as pool,
    ):
        try:
            return await follow_up_rows(context, pool, clock=lambda: clock.now())
        except StoppedByJob:
            return 0  # the ledger says why, and `submit` ends the run

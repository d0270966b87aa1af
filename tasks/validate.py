"""Judges answers by the answers gate."""

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.stages.run_context import load_gate
from rowtide.stages.validate.answers_gate import judge_answers


@durable
async def validate(run_id: str) -> dict[str, int]:
    """Judge answered rows, unless another worker does. Returns counts: accepted, escalated, quarantined, restarted."""
    async with (await LedgerSettings.in_force()).get_shared_run(run_id) as context:
        return dict(judge_answers(context, load_gate(context.job), clock=lambda: clock.now()))

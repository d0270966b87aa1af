"""Judges a look of an eval."""

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.stages.evaluate import judge_look as stage


@durable
async def judge_look(eval_id: str) -> bool:
    """Score the rows of the look whose runs are over, and judge all so far. Returns whether another look follows."""
    with (await LedgerSettings.in_force()).get_ledger() as ledger:
        return stage.judge_look(ledger, eval_id, now=clock.now())

"""Judges a look of an eval."""

from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.stages.evaluate import judge_look as stage
from rowtide.stages.evaluate.look_runs import ArmRun


@durable
async def judge_look(eval_id: str) -> list[ArmRun]:
    """Score the rows of the look whose runs are over, and judge all so far. Returns the runs that must ask a judge
    first."""
    settings = await LedgerSettings.in_force()
    with settings.get_ledger() as ledger:
        return stage.judge_look(ledger, settings.home, eval_id, now=clock.now())

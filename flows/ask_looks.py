"""The loop of an eval: look by look, until one decides."""

from flows.answer_rows import answer_rows
from rowtide import gc_tuning
from rowtide.stages.evaluate.look_runs import ArmRun
from rowtide.tools.kept_pool import keep_tool_servers
from tasks.extract import extract
from tasks.judge_look import judge_look
from tasks.next_look import next_look
from tasks.report_eval import report_eval


@keep_tool_servers()
async def ask_looks(eval_id: str) -> str:
    """Ask what is left of an eval that was begun, until a look decides. Returns its id."""
    gc_tuning.freeze_once()
    while (runs := await next_look(eval_id)) is not None:  # rows that no earlier answer stands for
        await _ask(eval_id, runs)  # the incumbent's first: what its tools say is played back to the candidate
        while pairs := await judge_look(eval_id):  # a judge must be asked about these first
            await _ask(eval_id, pairs)
    await report_eval(eval_id)
    return eval_id


async def _ask(eval_id: str, runs: list[ArmRun]) -> None:
    for each in runs:
        asked = (each.folder, each.source, each.run_id, None, each.lane, each.budget_usd, None, each.tiers)
        await answer_rows(await extract(*asked, eval_id=eval_id))  # the pump, without its sink

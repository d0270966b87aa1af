"""The loop of an eval: look by look, until one decides."""

from flows.answer_rows import answer_rows
from rowtide import gc_tuning
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
        for arm in runs:  # the incumbent's first: what its tools say is played back to the candidate
            asked = (arm.folder, arm.source, arm.run_id, None, arm.lane, arm.budget_usd, None, arm.tiers, None, eval_id)
            await answer_rows(await extract(*asked))  # the pump, without its sink
        await judge_look(eval_id)  # right, harm, and what they prove
    await report_eval(eval_id)
    return eval_id

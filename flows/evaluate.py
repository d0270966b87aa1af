"""An eval: two versions of a job on the same golden rows, look by look, until one decides."""

from flows.answer_rows import answer_rows
from rowtide.evals.golden_rows import Part
from rowtide.stages.evaluate.choose_arms import Candidate
from tasks.extract import extract
from tasks.judge_look import judge_look
from tasks.next_look import next_look
from tasks.prepare_eval import prepare_eval


async def evaluate(
    job: str,
    candidate: Candidate,
    part: Part = "confirm",
    budget: float | None = None,
    lane: str = "batch",
    who: str = "",
    *,
    is_anew: bool = False,
) -> str:
    """Compare a candidate with what it must not be worse than; the arguments are those of `evaluate_job`. Returns the
    eval's id.

    Started again with the same arguments, it goes on where it stopped: what was asked is asked no more.
    """
    eval_id = await prepare_eval(job, candidate, part=part, budget=budget, lane=lane, who=who, is_anew=is_anew)
    while (runs := await next_look(eval_id)) is not None:  # rows that no earlier answer stands for
        for arm in runs:  # the incumbent's first: what its tools say is played back to the candidate
            asked = (arm.folder, arm.source, arm.run_id, None, arm.lane, arm.budget_usd, None, arm.tiers, None, eval_id)
            await answer_rows(await extract(*asked))  # the pump, without its sink
        await judge_look(eval_id)  # right, harm, and what they prove
    return eval_id

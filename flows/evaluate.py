"""An eval, begun or found: two versions of a job on the same golden rows."""

from flows.ask_looks import ask_looks
from rowtide.evals.golden_rows import Part
from rowtide.stages.evaluate.choose_arms import Candidate
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
    return await ask_looks(
        await prepare_eval(job, candidate, part=part, budget=budget, lane=lane, who=who, is_anew=is_anew)
    )

"""An eval as a Prefect flow: a form, parking, and the verdict on its page."""

from pathlib import Path

from prefect import flow

from flows.evaluate import evaluate
from flows.run_job import Amount
from orchestration.cancel_batches import cancel_batches
from orchestration.initial_flow_run_name import initial_flow_run_name
from orchestration.under_prefect import under_prefect
from rowtide.evals.golden_rows import Part
from rowtide.lanes.lane_table import AskedLane
from rowtide.stages.evaluate.choose_arms import Candidate
from rowtide.stages.evaluate.write_arm import Changes


@flow(name="evaluate_job", flow_run_name=initial_flow_run_name, persist_result=False, on_cancellation=[cancel_batches])
async def evaluate_job(
    job: str,
    candidate: str | None = None,
    tiers: list[str] | None = None,
    prompt: str | None = None,
    skills: list[str] | None = None,
    settings: list[str] | None = None,
    against: str | None = None,
    budget: Amount | None = None,
    lane: AskedLane = "batch",
    drift: bool = False,
    dev: bool = False,
    again: bool = False,
    who: str = "Prefect",
) -> str:
    """Compare two versions of a job on rows whose answer is known, and say whether the new one may run.

    Without a candidate the job as it is is compared with the version that passed last. Started again, it goes on where
    it stopped; a question that was answered costs nothing. Returns the eval's id.

    Args:
        job: A name under jobs/, or a folder that holds a job.yaml.
        candidate: Another job's folder, compared with the job.
        tiers: The candidate is the job on this ladder, cheapest first.
        prompt: The candidate is the job with this file as its prompt.
        skills: The candidate is the job with these skills' folders besides.
        settings: The candidate is the job with these KEY=VALUE in job.yaml, such as limits.turns=4.
        against: Compare the job as it is with a git revision of its folder, such as main, or with another folder.
        budget: What the eval may cost at worst, in US dollars; by default what the job says.
        lane: How turns reach the model: in batches at half price, or live.
        drift: Ask the job as it is anew, against the first answers that the ledger keeps of this version.
        dev: Ask the golden rows that may be looked at while the job is changed: it takes nothing of the level, and
            lets no version run.
        again: Ask a question again that was answered.
        who: Your name, for the ledger.
    """
    changes = Changes(tuple(tiers or ()), _path(prompt), tuple(map(Path, skills or ())), tuple(settings or ()))
    asked = Candidate(_path(candidate), changes, against, drift)
    with under_prefect():
        part: Part = "dev" if dev else "confirm"
        return await evaluate(job, asked, part, budget, lane, who, is_anew=again)


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None

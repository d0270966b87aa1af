"""`rowtide eval JOB --prove`: whether golden rows can refuse, tried with candidates that are known to be worse."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from cli.exits import Exit
from cli.output import err, out, print_error, print_json
from flows.evaluate import evaluate
from rowtide.errors import RunStopped, UserMistake
from rowtide.evals.golden_rows import GOLDEN_FILE, Part
from rowtide.evals.known_worse import Plant
from rowtide.evals.outcome import EvalOutcome
from rowtide.evals.proof import PlantedCandidate, Proof, proof_as_json, proof_lines
from rowtide.job.job_folder import load_job
from rowtide.stages.evaluate.choose_arms import Candidate
from rowtide.stages.evaluate.plant_candidates import plant_candidates
from rowtide.stages.evaluate.write_arm import Changes
from rowtide.tiers.pricing import MICRO

PLANTED: Part = "planted"


def prove(
    folder: Path, budget: float | None, lane: str, who: str, read: Callable[[str], EvalOutcome], *, json: bool
) -> int:
    """Evaluate every known-worse candidate of a job, and say which were caught. Returns the exit status.

    Started again, it goes on: what was evaluated is asked no more.
    """
    job, done, stopped = load_job(folder), list[PlantedCandidate](), ""
    if not (plants := plant_candidates(job)):
        raise UserMistake("nothing can be planted: no tool, no second tier, and no rule in its prompt", file=folder)
    for number, plant in enumerate(plants, 1):
        err.print(f"{number} of {len(plants)}  {plant.name}")
        left = None if budget is None else budget - sum(e.outcome.cost_micro for e in done if e.outcome) / MICRO
        try:
            done.append(_evaluate(folder, plant, left, lane, who, read))
        except RunStopped as at_budget:
            stopped = f"{at_budget}: the same command with a larger --budget goes on"
            break
        if done[-1].problem and len(done) == len(plants) and not any(each.outcome for each in done):
            raise UserMistake(f"no planted candidate could be evaluated: {done[-1].problem}", file=folder)
    proof = Proof(job.name, done, is_over=not stopped)
    if json:
        print_json(proof_as_json(proof))
    else:
        out.lines(proof_lines(proof))
    if stopped:
        print_error(stopped)
        return Exit.BUDGET
    return Exit.DONE if proof.is_enough else Exit.REFUSED


def _evaluate(
    folder: Path, plant: Plant, budget: float | None, lane: str, who: str, read: Callable[[str], EvalOutcome]
) -> PlantedCandidate:
    """One candidate. Raises RunStopped at the budget."""
    if budget is not None and budget <= 0:
        raise RunStopped("the budget is spent")
    candidate = Candidate(changes=Changes(settings=plant.settings, files=plant.files, name=plant.name))
    try:
        eval_id = asyncio.run(evaluate(str(folder), candidate, PLANTED, budget, lane, who))
    except UserMistake as mistake:
        if mistake.file == folder / GOLDEN_FILE:
            raise  # of the golden rows, and so of every candidate
        return PlantedCandidate(plant.name, None, str(mistake))
    return PlantedCandidate(plant.name, read(eval_id))

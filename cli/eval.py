"""`rowtide eval JOB`: compare two versions of a job on golden rows."""

import asyncio
import getpass
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from cli.environment_checks import check_home
from cli.exits import Exit
from cli.home_folders import home_folder, rehearse_without_key
from cli.numbers import Amount
from cli.open_ledger import open_home_ledger
from cli.output import err, out, print_error, print_json, short_path
from cli.prove_eval import prove as prove_rows
from cli.shared_arguments import JobName
from cli.terminal_run import AsJson, announce_rehearsal, checked_plan, claude_or_emulator
from configuration.operator import NOBODY, with_operator
from flows.evaluate import evaluate
from rowtide.errors import RowtideError, RunStopped, UserMistake, WorldError
from rowtide.evals.eval_words import as_json, as_junit, as_text
from rowtide.evals.golden_rows import Part
from rowtide.evals.outcome import EvalOutcome
from rowtide.evals.verdicts import PASSES
from rowtide.job.job_folder import find_job
from rowtide.ledger.engine import LedgerBroken
from rowtide.ledger.read.evals import read_outcome
from rowtide.stages.evaluate.choose_arms import Candidate
from rowtide.stages.evaluate.write_arm import Changes
from rowtide.stages.required_eval import override_verdict

Flag = Annotated[bool, Parameter(negative="")]


def eval_(
    job: JobName,
    *,
    candidate: Path | None = None,
    tiers: str | None = None,
    prompt: Path | None = None,
    skill: Annotated[list[Path] | None, Parameter(negative="")] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    against: str | None = None,
    drift: Flag = False,
    dev: Flag = False,
    prove: Flag = False,
    budget: Amount | None = None,
    lane: Literal["batch", "live", "stream", "auto"] = "batch",
    again: Flag = False,
    override: Flag = False,
    why: str | None = None,
    json: AsJson = False,
    junit: Path | None = None,
) -> int:
    """Compare two versions of a job on rows whose answer is known, and say whether the new one may run.

    Without a candidate the job as it is is compared with the version that passed last. The eval stops at the first
    look that decides. Started again, it goes on where it stopped; a question that was answered costs nothing.

    Parameters
    ----------
    job
        A name under jobs/, or a folder that holds a job.yaml.
    candidate
        Another job's folder, compared with the job.
    tiers
        The candidate is the job on this ladder, cheapest first: haiku,sonnet.
    prompt
        The candidate is the job with this prompt.
    skill
        The candidate is the job with this skill's folder besides. May be given several times.
    set_
        The candidate is the job with KEY=VALUE in job.yaml, such as limits.turns=4. May be given several times.
    against
        Compare the job as it is with a git revision of its folder, such as main, or with another folder.
    drift
        Ask the job as it is anew, and compare that with the first answers that the ledger keeps of this version: a
        model may answer otherwise under its old name. Exits 6 only where it answers worse.
    dev
        Ask the golden rows that may be looked at while the job is changed: it takes nothing of the level, and lets no
        version run.
    prove
        Evaluate candidates that are known to be worse, made of the job's own files (a rule dropped, the weakest tier
        only, two values exchanged, …), and say which the golden rows catch. It takes nothing of the level, lets no
        version run, and exits 6 unless nine of ten are caught. --budget is of all of them together.
    budget
        What the eval may cost at worst, in US dollars; what would cross it is not sent, and the command exits 4.
    lane
        How turns reach the model: in batches at half price, or live; auto decides as for a run.
    again
        Ask a question again that was answered.
    override
        Ask nothing: let the job as it is run without a passing verdict, on your word. Your name and --why stand in the
        ledger for good.
    why
        Your reason for --override.
    json
        Print one JSON object last on stdout.
    junit
        Write the verdict as a JUnit file, for a CI server.
    """
    folder = find_job(job, jobs=Path("jobs"))
    rehearse_without_key()
    check_home(home_folder())
    announce_rehearsal()
    if override:
        return _override(folder, why)
    changes = Changes(tuple(tiers.split(",")) if tiers else (), prompt, tuple(skill or ()), tuple(set_ or ()))
    asked = Candidate(candidate, changes, against, drift)
    if prove:
        return _prove(folder, asked, budget, lane, json=json)
    part: Part = "dev" if dev else "confirm"
    asking = evaluate(str(folder), asked, part, budget, lane, getpass.getuser(), is_anew=again)
    return ask_to_end(asking, as_json_object=json, junit=junit)


def ask_to_end(asking: Coroutine[Any, Any, str], *, as_json_object: bool, junit: Path | None = None) -> int:
    """Ask what an eval has to ask, and print what came of it. Returns the exit status."""
    try:
        with claude_or_emulator(), with_operator(NOBODY):
            eval_id = asyncio.run(asking)
    except RunStopped as stopped:
        print_error(f"{stopped}")
        return Exit.BUDGET
    except (WorldError, LedgerBroken) as gone:
        raise RowtideError(f"{gone}; what was asked is kept: the same command goes on") from gone
    page = home_folder() / "reports" / f"{eval_id}.html"
    return say_outcome(_outcome(eval_id), as_json_object=as_json_object, junit=junit, page=page)


def say_outcome(outcome: EvalOutcome, *, as_json_object: bool, junit: Path | None, page: Path | None = None) -> int:
    """Print what came of an eval. Returns the exit status."""
    if junit is not None:
        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_bytes(as_junit(outcome))
        err.print(f"written to {short_path(junit)}")
    if as_json_object:
        print_json(as_json(outcome))
    else:
        out.lines([*as_text(outcome), f"eval       {outcome.eval_id}"])
        out.lines([f"page       {short_path(page)}"] if page and page.is_file() else [])
    is_fine = outcome.verdict in PASSES or (outcome.is_drift and outcome.verdict == "undecided")
    return Exit.DONE if is_fine else Exit.REFUSED


def _prove(folder: Path, asked: Candidate, budget: float | None, lane: str, *, json: bool) -> int:
    if asked != Candidate():
        raise UserMistake("plants candidates of its own: name none beside it", key="--prove")
    try:
        with claude_or_emulator(), with_operator(NOBODY):
            return prove_rows(folder, budget, lane, getpass.getuser(), _outcome, json=json)
    except (WorldError, LedgerBroken) as gone:
        raise RowtideError(f"{gone}; what was asked is kept: the same command goes on") from gone


def _override(folder: Path, why: str | None) -> int:
    if not (why or "").strip():
        raise UserMistake("say why, for whoever reads the ledger: --override --why TEXT", key="--why")
    with claude_or_emulator():
        plan = checked_plan(folder, None, trust=False)
    with open_home_ledger() as ledger:
        override_verdict(ledger, plan, who=getpass.getuser(), why=str(why), now=datetime.now(UTC))
    out.print(f"{plan.job.name} may run as it is, on the word of {getpass.getuser()}: {why}")
    return Exit.DONE


def _outcome(eval_id: str) -> EvalOutcome:
    with open_home_ledger() as ledger, ledger.view() as tx:
        return read_outcome(tx, eval_id)

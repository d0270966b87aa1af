"""Begins an eval: two versions and the golden rows, with every mistake found before anything is paid."""

import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.errors import UserMistake
from rowtide.evals.golden_rows import Part
from rowtide.evals.judges import FieldJudge
from rowtide.job.job_folder import Job, find_job, load_job
from rowtide.job.run_id import new_run_id
from rowtide.ledger import evals as ledger_evals
from rowtide.stages.evaluate.begin_eval import Compared, Question, begin_eval
from rowtide.stages.evaluate.choose_arms import (
    Candidate,
    Folders,
    at_origin,
    check_comparable,
    choose_arms,
    own_ladder,
)
from rowtide.stages.evaluate.golden_set import GoldenSet, read_golden_set
from rowtide.stages.evaluate.write_judge import at_field, write_judges
from rowtide.stages.orchestrator import current_orchestrator


@durable
async def prepare_eval(
    job: str,
    candidate: Candidate,
    *,
    part: Part = "confirm",
    budget: float | None = None,
    lane: str = "batch",
    who: str = "",
    is_anew: bool = False,
) -> str:
    """Begin an eval, or find the one that asks the same, or that this flow run began, and go on with it. Returns its
    id. Raises UserMistake.
    """
    settings, api = await LedgerSettings.in_force(), await ClaudeSettings.api_in_force()
    folder, now = find_job(job, jobs=Path("jobs")), clock.now()
    eval_id, begun_id = new_run_id(f"eval-{folder.name}", now, secrets.token_hex(2)), ""
    into = settings.home / "evals" / eval_id
    worked_by = current_orchestrator().flow_run_id
    with settings.get_ledger() as ledger:
        with ledger.view() as tx:
            if begun := ledger_evals.begun_by_flow_run(tx, worked_by):
                return begun  # the job may have changed meanwhile: that is another question
        try:
            folders = choose_arms(ledger, folder, api.name, candidate, into)
            try:
                given = {"budget_usd": budget, "lane": lane, "who": who, "is_anew": is_anew, "flow_run_id": worked_by}
                asked = await _question(settings, folder, folders, part, into, eval_id=eval_id, **given)
                begun_id = begin_eval(ledger, asked, now=now).eval_id
            except UserMistake as mistake:
                raise at_origin(mistake, folders, candidate.changes) from None
        finally:
            if begun_id != eval_id:
                shutil.rmtree(into, ignore_errors=True)  # nothing was begun, or it is another's question
    return begun_id


async def _question(
    settings: LedgerSettings, folder: Path, folders: Folders, part: Part, into: Path, **given: Any
) -> Question:
    """What is to be decided about both versions, each found fit to run, on the same columns."""
    new = Compared(folders.candidate_label, await settings.get_plan(folders.candidate, None, own_ladder(folders)))
    old = Compared(folders.incumbent_label, await settings.get_plan(folders.incumbent, None))
    check_comparable(new.plan, old.plan)
    job = load_job(folder)
    golden = read_golden_set(job, new.plan, part, os.environ)
    return Question(
        job=job,
        settings_of=folders.settings_of,
        part=part,
        candidate=new,
        incumbent=old,
        golden=golden,
        judges=await _judges(settings, job, golden, into),
        is_first=folders.is_first,
        is_drift=folders.is_drift,
        **given,
    )


async def _judges(settings: LedgerSettings, job: Job, golden: GoldenSet, into: Path) -> tuple[FieldJudge, ...]:
    """The judges of fields that golden rows have, each with its job written and found fit to run."""
    found: list[FieldJudge] = []
    for each in write_judges(job, golden, into):
        try:
            plan = await settings.get_plan(Path(each.folder), None, [each.tier])
        except UserMistake as mistake:
            raise at_field(mistake, job, each.field) from None
        found.append(replace(each, asked=plan.asked))
    return tuple(found)

"""Refuses a version of a job that requires a passing eval (`evals.required`) and has none."""

from datetime import datetime

from rowtide.errors import NoPassingVerdict
from rowtide.ledger import permitted_versions
from rowtide.ledger.ledger import Ledger
from rowtide.stages.measured_version import measured_version
from rowtide.stages.preflight import Plan


def check_passing_verdict(ledger: Ledger, plan: Plan) -> None:
    """Raise NoPassingVerdict unless an eval on this API passed the planned version, or a person let it run."""
    job = plan.job
    if not job.spec.evals.required:
        return
    with ledger.view() as tx:
        found = permitted_versions.standing(tx, job.name, _version_of(plan), plan.api.name)
    if found.may_run:
        return
    verdict = f"was found {str(found.verdict).replace('_', ' ')} by {found.eval_id}" if found.verdict else "has none"
    raise NoPassingVerdict(
        f"{job.name} requires a passing eval of every version (evals.required); this version {verdict}: nothing was "
        f"begun. `rowtide eval {job.folder.name}` measures it; `rowtide eval {job.folder.name} --override --why TEXT` "
        "lets it run on your word"
    )


def override_verdict(ledger: Ledger, plan: Plan, *, who: str, why: str, now: datetime) -> None:
    """Let the planned version run without a passing verdict, on a person's word. The first word counts."""
    with ledger.page() as tx:
        permitted_versions.override(tx, plan.job.name, _version_of(plan), who=who, why=why, now=now)


def _version_of(plan: Plan) -> str:
    return measured_version(plan.job, [model.id for model in plan.models])

"""Refuses a version of a job that requires a passing eval (`evals.required`) and has none."""

from datetime import datetime, timedelta

from rowtide.errors import NoPassingVerdict, VersionStopped
from rowtide.ledger import permitted_versions
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.permitted_versions import OpenQuestion, PersonsWord, Standing
from rowtide.stages.measured_version import measured_version
from rowtide.stages.preflight import Plan

ASK_AGAIN = timedelta(hours=12)  # one form for a version, however many flow runs it holds: after that, another


def check_passing_verdict(ledger: Ledger, plan: Plan) -> PersonsWord | None:
    """Raise NoPassingVerdict unless an eval on this API passed the planned version, or a person let it run: then his
    word is returned. VersionStopped, where a person has stopped it.
    """
    job = plan.job
    if not job.spec.evals.required:
        return None
    version = _version_of(plan)
    with ledger.view() as tx:
        found = permitted_versions.standing(tx, job.name, version, plan.api.name)
    if found.may_run:
        return found.word
    refused = VersionStopped if found.word else NoPassingVerdict
    raise refused(_refusal(plan, found), job=job.name, version=version, folder=job.folder)


def override_verdict(ledger: Ledger, plan: Plan, *, who: str, why: str, now: datetime) -> None:
    """Let the planned version run without a passing verdict, on a person's word. The first word counts."""
    with ledger.page() as tx:
        version = _version_of(plan)
        found = permitted_versions.standing(tx, plan.job.name, version, plan.api.name)
        permitted_versions.override(tx, plan.job.name, version, _refusal(plan, found), who=who, why=why, now=now)


def ask_about_version(ledger: Ledger, refused: NoPassingVerdict, flow_run_id: str, *, now: datetime) -> OpenQuestion:
    """Record that a flow run asks a person whether the refused version may run.

    Raises VersionStopped where a person has stopped it, or where another flow run asks already.
    """
    if isinstance(refused, VersionStopped):
        raise refused
    with ledger.page() as tx:
        other = permitted_versions.asked_since(tx, refused.job, refused.version, now - ASK_AGAIN)
        if other is None:
            return permitted_versions.ask(tx, refused.job, refused.version, str(refused), flow_run_id, now=now)
    words = f"{refused}. A person is being asked, by a form on the page of flow run {other}"
    raise VersionStopped(words, job=refused.job, version=refused.version, folder=refused.folder)


def _refusal(plan: Plan, found: Standing) -> str:
    job = plan.job
    verdict = f"was found {str(found.verdict).replace('_', ' ')} by {found.eval_id}" if found.verdict else "has none"
    stopped = f", and {found.word.who} stopped it: {found.word.why}" if found.word else ""
    return (
        f"{job.name} requires a passing eval of every version (evals.required); this version {verdict}{stopped}: "
        f"nothing was begun. `rowtide eval {job.folder.name}` measures it; `rowtide eval {job.folder.name} --override "
        "--why TEXT` lets it run on your word"
    )


def _version_of(plan: Plan) -> str:
    return measured_version(plan.job, [model.id for model in plan.models])

"""Asks a person whether a version of a job may run that has no passing eval."""

from datetime import UTC, datetime

from configuration.ledger_settings import LedgerSettings
from orchestration.emit_once import emit_once
from rowtide.errors import NoPassingVerdict, RunStopped
from rowtide.escaping import shell_word
from rowtide.gates.approval_forms import VersionApproval
from rowtide.job.job_file import read_spec
from rowtide.job.on_call import runbook_location
from rowtide.ledger import permitted_versions
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.permitted_versions import OpenQuestion
from rowtide.report.override_text import version_approval_text
from rowtide.stages.orchestrator import current_orchestrator
from rowtide.stages.required_eval import ask_about_version


async def ask_version(refused: NoPassingVerdict | None = None) -> None:
    """Suspend until a person has decided about the refused version; without one, about that which this flow run had
    asked of. Returns when it may run.

    Raises RunStopped where it may not, and NoPassingVerdict where nobody can be asked: without a deployment there are
    no forms, and `rowtide eval JOB --override` is used instead. Not durable: only a flow can suspend itself.
    """
    orchestrator = current_orchestrator()
    if not orchestrator.can_suspend:
        if refused is not None:
            raise refused
        return
    database, flow_run_id = await LedgerSettings.in_force(), str(orchestrator.flow_run_id)
    with database.get_ledger() as ledger:
        asked = _open_question(ledger, refused, flow_run_id)
    if asked is None:
        return
    await orchestrator.name(f"{asked.job}: waits for a person, its version has no passing eval", {"job": asked.job})
    words = version_approval_text(asked.job, asked.refusal)
    given = await orchestrator.ask(VersionApproval, words, key=f"version-{asked.override_no}")
    with database.get_ledger() as ledger, ledger.page() as tx:
        no, now = asked.override_no, datetime.now(UTC)
        permitted_versions.decide(tx, no, given.decision, who=given.who, why=given.why, now=now)
    if given.decision == "stop":
        raise RunStopped(f"{asked.job}: {given.who} stopped this version: {given.why}. Nothing was begun")


def _open_question(ledger: Ledger, refused: NoPassingVerdict | None, flow_run_id: str) -> OpenQuestion | None:
    """What this flow run has asked, or now asks: then an event says so."""
    with ledger.view() as tx:
        asked = permitted_versions.open_question(tx, flow_run_id)
    if asked is None and refused is not None:
        asked = ask_about_version(ledger, refused, flow_run_id, now=datetime.now(UTC))
        spec, name = read_spec(refused.folder), shell_word(refused.folder.name)
        payload = {"why": asked.refusal, "command": f"rowtide eval {name} --override --why TEXT"}
        payload |= {"owner": spec.owner, "runbook": runbook_location(spec.runbook, refused.folder)}
        emit_once(ledger, "version.held", "job", asked.job, f"version {asked.override_no}", payload, asked.job)
    return asked

"""Takes a changed job into a run that has begun, or says what that would change."""

from dataclasses import dataclass

import orjson

from rowtide.errors import UserMistake
from rowtide.job.versions import FIXED, changed_parts, name_changes, version_from_record
from rowtide.ledger import gate_results as ledger_gate_results
from rowtide.ledger import job_versions as ledger_job_versions
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import permitted_versions
from rowtide.ledger.job_versions import AmendmentEffects
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.quarantine import Signature
from rowtide.stages.preflight import Plan
from rowtide.stages.required_eval import check_passing_verdict


@dataclass(frozen=True, slots=True)
class Amendment:
    """An amendment, and its effects on rows."""

    version_no: int
    changed: list[str]
    """The files and keys that changed."""
    asks_anew: bool
    effects: AmendmentEffects


def amend_run(
    ledger: Ledger, run_id: str, plan: Plan, hand: Signature, why: str, *, leaves_quarantine: bool, is_dry: bool
) -> Amendment | None:
    """Take the planned job into the run, in one transaction; with `is_dry` only say what that would do. None: no
    change.

    Raises UserMistake for changes that a run cannot take, and while a process works on it; NoPassingVerdict when the
    job requires an eval of this version.
    """
    word = None if is_dry else check_passing_verdict(ledger, plan)
    with ledger.page() as tx:
        run = ledgers.find_run(tx, run_id)
        check_amendable(run, plan)
        now = plan.job.version
        if (now.asking, now.judging) == (run.asking, run.judging):
            return None
        if not is_dry and ledger_leases.lease_state(tx, run_id, now=hand.now) == "held":
            raise UserMistake(
                f"a process works on run {run_id} at this moment: stop it first (Ctrl-C; `rowtide cancel {run_id}` "
                "where it runs elsewhere), or let it come to its end; then amend"
            )
        asks_anew = now.asking != run.asking
        found = ledger_job_versions.amendment_effects(tx, run, asks_anew=asks_anew, leaves_quarantine=leaves_quarantine)
        amended = Amendment(run.version_no + 1, name_changes(version_from_record(run.parts), now), asks_anew, found)
        if is_dry:
            return amended
        servers = str(plan.record["servers"])
        after = ledger_job_versions.adopt_version(tx, run, now, plan.request, plan.skills, servers, hand, why)
        permitted_versions.use_override(tx, after, word)
        if now.judging != run.judging:
            ledger_gate_results.forget_verdicts(tx, after, "answers")  # the gate's file may have fewer expectations now
        ledger_job_versions.rejudge_replies(tx, after, hand, quarantined=not leaves_quarantine)
        if asks_anew and not leaves_quarantine:
            ledger_job_versions.resend_quarantined(tx, after, hand)
        return amended


def check_amendable(run: Run, plan: Plan) -> None:
    """Raise UserMistake that names what changed, if a run's rows depend on it."""
    before, now = version_from_record(run.parts), plan.job.version
    fixed = [part for part in changed_parts(before.asks, now.asks) if part in FIXED]
    if plan.record["source"] != run.source:
        fixed.append(f"the source ({run.source})")
    if plan.record["tiers"] != run.tiers and not fixed:
        fixed.append(f"the tiers ({', '.join(orjson.loads(run.tiers))})")
    if fixed:
        raise UserMistake(
            f"{', '.join(fixed)} changed since run {run.run_id} began, and its rows stand on that: "
            "put it back to amend, or start a new run, which asks again only what it must",
            file=plan.job.folder,
        )

"""Records and decides which versions of a job may run: those that an eval passed, and those that a person allowed.

What a person says of a version is appended: a question first where a form asks it, then the decision, with name and
reason. Which runs went ahead on whose word is kept too.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, text

from rowtide.evals.verdicts import PASSES
from rowtide.ledger.ledger import Run, to_timestamp

Decision = Literal["run", "stop"]


@dataclass(frozen=True, slots=True)
class PersonsWord:
    """What a person decided about a version that has no passing verdict."""

    override_no: int
    decision: Decision
    who: str
    why: str
    decided_at: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a version of a job may run, and on whose word."""

    may_run: bool
    eval_id: str | None = None
    verdict: str | None = None
    word: PersonsWord | None = None
    """Of the person who let it run, or stopped it; None where a verdict passes it."""


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A flow run's question whether a version may run, which nobody has answered."""

    override_no: int
    job: str
    version: str
    refusal: str


def standing(tx: Connection, job: str, version: str, api: str) -> Standing:
    """Return whether this version of a job may run: its newest eval on this API passed, or a person allowed it."""
    word = word_on(tx, job, version)
    query = text(
        "SELECT eval_id, verdict FROM eval WHERE job = :job AND version = :version AND api = :api "
        "AND part = 'confirm' AND may_gate = 1 AND verdict IS NOT NULL ORDER BY eval_no DESC LIMIT 1"
    )
    newest = tx.execute(query, {"job": job, "version": version, "api": api}).first()
    eval_id, verdict = (newest.eval_id, newest.verdict) if newest else (None, None)
    if verdict in PASSES:
        return Standing(True, eval_id, verdict)
    return Standing(word is not None and word.decision == "run", eval_id, verdict, word)


def override(tx: Connection, job: str, version: str, refusal: str, *, who: str, why: str, now: datetime) -> None:
    """Record that a person allows a version to run without a passing verdict. The first word that allows it counts."""
    override_no = _ask(tx, job, version, refusal, None, now)
    decide(tx, override_no, "run", who=who, why=why, now=now)


def ask(tx: Connection, job: str, version: str, refusal: str, flow_run_id: str, *, now: datetime) -> OpenQuestion:
    """Record that a flow run asks a person whether this version may run."""
    return OpenQuestion(_ask(tx, job, version, refusal, flow_run_id, now), job, version, refusal)


def decide(tx: Connection, override_no: int, decision: Decision, *, who: str, why: str, now: datetime) -> None:
    """Answer a question, once."""
    query = text(
        "UPDATE eval_override SET decision = :decision, who = :who, why = :why, decided_at = :now "
        "WHERE override_no = :no AND decision IS NULL"
    )
    values = {"no": override_no, "decision": decision, "who": who, "why": why, "now": to_timestamp(now)}
    tx.execute(query, values)


def open_question(tx: Connection, flow_run_id: str) -> OpenQuestion | None:
    """Return the question that this flow run has asked and that has no answer yet."""
    query = text(
        "SELECT override_no, job, version, refusal FROM eval_override WHERE flow_run_id = :id AND decision IS NULL "
        "ORDER BY override_no DESC LIMIT 1"
    )
    found = tx.execute(query, {"id": flow_run_id}).first()
    return None if found is None else OpenQuestion(*found)


def asked_since(tx: Connection, job: str, version: str, since: datetime) -> str | None:
    """Return the flow run that has asked about this version since then and has no answer yet."""
    query = text(
        "SELECT flow_run_id FROM eval_override WHERE job = :job AND version = :version AND decision IS NULL "
        "AND asked_at >= :since ORDER BY override_no LIMIT 1"
    )
    return tx.execute(query, {"job": job, "version": version, "since": to_timestamp(since)}).scalar()


def use_override(tx: Connection, run: Run, word: PersonsWord | None) -> None:
    """Record that the run's present version runs on a person's word. Nothing for None."""
    query = text(
        "INSERT INTO override_use (run_no, version_no, override_no) VALUES (:run, :version, :no) ON CONFLICT DO NOTHING"
    )
    if word is not None:
        tx.execute(query, {"run": run.run_no, "version": run.version_no, "no": word.override_no})


def overrides_of_run(tx: Connection, run: Run) -> list[dict[str, Any]]:
    """Return on whose word the run went ahead without a passing verdict: version, who, why, when, what was refused."""
    query = text(
        "SELECT u.version_no AS version, o.who, o.why, o.decided_at, o.refusal FROM override_use u "
        "JOIN eval_override o USING (override_no) WHERE u.run_no = :run ORDER BY u.version_no"
    )
    return [dict(each) for each in tx.execute(query, {"run": run.run_no}).mappings()]


def word_on(tx: Connection, job: str, version: str) -> PersonsWord | None:
    """Return what a person decided about this version: that it may run, else that it may not."""
    query = text(
        "SELECT override_no, decision, who, why, decided_at FROM eval_override WHERE job = :job AND version = :version "
        "AND decision IS NOT NULL ORDER BY decision, CASE decision WHEN 'run' THEN override_no ELSE -override_no END"
    )
    found = tx.execute(query, {"job": job, "version": version}).first()
    return None if found is None else PersonsWord(*found)


def _ask(tx: Connection, job: str, version: str, refusal: str, flow_run_id: str | None, now: datetime) -> int:
    query = text(
        "INSERT INTO eval_override (job, version, refusal, flow_run_id, asked_at) "
        "VALUES (:job, :version, :refusal, :flow_run, :now) RETURNING override_no"
    )
    values = {"job": job, "version": version, "refusal": refusal, "flow_run": flow_run_id, "now": to_timestamp(now)}
    return int(tx.execute(query, values).scalar_one())

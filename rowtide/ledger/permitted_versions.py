"""Records and decides which versions of a job may run: those that an eval passed, and those that a person allowed."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from rowtide.evals.verdicts import PASSES
from rowtide.ledger.ledger import to_timestamp


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a version of a job may run, and on whose word."""

    may_run: bool
    eval_id: str | None = None
    verdict: str | None = None
    who: str | None = None
    """The person who let it run without a passing verdict."""
    why: str | None = None


def standing(tx: Connection, job: str, version: str, api: str) -> Standing:
    """Return whether this version of a job may run: the newest eval of it on this API passed, or a person
    allowed it.
    """
    query = text("SELECT who, why FROM eval_override WHERE job = :job AND version = :version")
    values = {"job": job, "version": version, "api": api}
    if override := tx.execute(query, values).first():
        return Standing(True, who=override.who, why=override.why)
    query = text(
        "SELECT eval_id, verdict FROM eval WHERE job = :job AND version = :version AND api = :api "
        "AND part = 'confirm' AND may_gate = 1 AND verdict IS NOT NULL ORDER BY eval_no DESC LIMIT 1"
    )
    newest = tx.execute(query, values).first()
    return Standing(newest.verdict in PASSES, newest.eval_id, newest.verdict) if newest else Standing(False)


def override(tx: Connection, job: str, version: str, *, who: str, why: str, now: datetime) -> None:
    """Record that a person allows a version to run without a passing verdict, with name and reason. The first word
    counts.
    """
    query = text(
        "INSERT INTO eval_override (job, version, who, why, decided_at) VALUES (:job, :version, :who, :why, :now) "
        "ON CONFLICT (job, version) DO NOTHING"
    )
    tx.execute(query, {"job": job, "version": version, "who": who, "why": why, "now": to_timestamp(now)})

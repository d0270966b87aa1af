"""Which version of a job may run: one that an eval passed, or that a person let."""

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
    """Whether this version of a job may run: an eval on this API passed it, or a person let it."""
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
    """Let a version run without a passing verdict: a person's word, with name and reason."""
    query = text(
        "INSERT INTO eval_override (job, version, who, why, decided_at) VALUES (:job, :version, :who, :why, :now) "
        "ON CONFLICT (job, version) DO NOTHING"
    )
    tx.execute(query, {"job": job, "version": version, "who": who, "why": why, "now": to_timestamp(now)})

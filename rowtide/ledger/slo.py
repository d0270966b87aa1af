"""Measures a job's objectives, and records breaches and emitted events."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, text

from rowtide.ledger.apis import OF_NEWEST_RUN
from rowtide.ledger.ledger import from_timestamp, to_timestamp
from rowtide.observing.slo import SloMeasurements

# Rows quarantined at admission (turn 0) or left unchanged were never asked.
_FINISHED = "w.state IN ('loaded', 'quarantined', 'unchanged')"
_FIGURES = (
    "SELECT coalesce(sum(CASE WHEN w.state = 'loaded' OR (w.state = 'unchanged' AND w.reason IS NULL) "
    f"THEN 1 ELSE 0 END), 0), coalesce(sum(CASE WHEN {_FINISHED} THEN 1 ELSE 0 END), 0), "
    "coalesce(sum(CASE WHEN w.state = 'loaded' THEN 1 ELSE 0 END), 0), "
    "coalesce(sum(CASE WHEN w.state = 'loaded' OR (w.state = 'quarantined' AND w.turn > 0) THEN 1 ELSE 0 END), 0), "
    "coalesce(sum(w.cost_micro), 0) FROM run r JOIN row w USING (run_no) WHERE r.job = :job AND r.started_at >= :since "
    f"AND r.api = {OF_NEWEST_RUN}"
)
_OLDEST = (
    "SELECT min(at) FROM (SELECT min(m.received_at) AS at FROM message_row w JOIN message m USING (message_no) "
    "WHERE w.job = :job AND w.run_id IS NULL UNION ALL "
    "SELECT min(started_at) FROM run WHERE job = :job AND finished_at IS NULL "
    "AND coalesce(stopped, '') <> 'canceled') waiting"
)


def measure_objectives(tx: Connection, job: str, *, since: datetime, now: datetime) -> SloMeasurements:
    """Return the figures of the job's runs that began since then, and the age in seconds of its oldest waiting row.

    Only runs on the API of the job's newest run count.
    """
    known = {"job": job, "since": to_timestamp(since)}
    covered, settled, accepted, judged, cost = tx.execute(text(_FIGURES), known).one()
    oldest = tx.execute(text(_OLDEST), known).scalar()
    return SloMeasurements(
        covered=int(covered),
        settled=int(settled),
        accepted=int(accepted),
        judged=int(judged),
        cost_micro=int(cost),
        oldest_seconds=(now - from_timestamp(oldest)).total_seconds() if oldest else 0.0,
    )


def breaches_since(tx: Connection, job: str) -> dict[str, datetime]:
    """Return the job's objectives that were breached when last measured, and since when."""
    query = text("SELECT objective, since FROM breach WHERE job = :job AND ended_at IS NULL")
    return {objective: from_timestamp(since) for objective, since in tx.execute(query, {"job": job})}


def record_breaches(tx: Connection, job: str, breached: Collection[str], *, now: datetime) -> None:
    """Record which objectives are breached now; breaches of all others end."""
    known = breaches_since(tx, job)
    begun = text("INSERT INTO breach (job, objective, since) VALUES (:job, :objective, :now)")
    ended = text("UPDATE breach SET ended_at = :now WHERE job = :job AND objective = :objective AND ended_at IS NULL")
    for objective in sorted(set(breached) ^ known.keys()):
        what = ended if objective in known else begun
        tx.execute(what, {"job": job, "objective": objective, "now": to_timestamp(now)})


def was_emitted(tx: Connection, subject: str, occurrence: str) -> bool:
    """Return whether this event was emitted."""
    query = text("SELECT 1 FROM emitted_event WHERE subject = :subject AND occurrence = :occurrence")
    return tx.execute(query, {"subject": subject, "occurrence": occurrence}).first() is not None


def record_emitted(tx: Connection, subject: str, occurrence: str, *, now: datetime) -> None:
    """Record that this event was emitted."""
    noted = (
        "INSERT INTO emitted_event VALUES (:subject, :occurrence, :now) ON CONFLICT (subject, occurrence) DO NOTHING"
    )
    tx.execute(text(noted), {"subject": subject, "occurrence": occurrence, "now": to_timestamp(now)})


def job_folders(tx: Connection) -> dict[str, str]:
    """Return the ledger's jobs, and the folder of each in its newest run."""
    newest = "SELECT max(run_no) FROM run WHERE eval_id IS NULL GROUP BY job"
    query = text(f"SELECT job, job_folder FROM run WHERE run_no IN ({newest})")
    return dict(tx.execute(query).tuples().all())

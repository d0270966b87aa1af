"""Recorded outputs of read-only tools, reused across runs of evals, so that two versions see the same outputs."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection, text

from rowtide.job.run_id import without_evals
from rowtide.ledger.ledger import Run, insert_rows, is_one_of, list_parameter, to_timestamp


def recorded(tx: Connection, run: Run, hashes: Collection[str], *, since: datetime) -> dict[str, str]:
    """Return call hash → recorded output, for those of these calls that were recorded since then."""
    these = is_one_of(tx, "hashes", kind="text")
    query = text(
        f"SELECT call_hash, output FROM recording WHERE job = :job AND call_hash {these} AND recorded_at >= :since"
    )
    values = {"job": without_evals(run.job), "hashes": list_parameter(hashes), "since": to_timestamp(since)}
    return dict(tx.execute(query, values).tuples().all())


def record(tx: Connection, job: str, outputs: Mapping[str, tuple[str, str]]) -> None:
    """Record the outputs of a job's tool calls (hash → output, time), in place of older ones."""
    # In order: two workers that insert the same calls the other way round would wait for each other for ever.
    rows = [(without_evals(job), key, output, at) for key, (output, at) in sorted(outputs.items())]
    newer = (
        "ON CONFLICT (job, call_hash) DO UPDATE SET output = excluded.output, recorded_at = excluded.recorded_at "
        "WHERE recording.recorded_at < excluded.recorded_at"
    )
    insert_rows(tx, "recording", ["job", "call_hash", "output", "recorded_at"], rows, newer)

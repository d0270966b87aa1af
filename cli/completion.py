"""Completes the names of jobs and runs on TAB in a shell."""

from collections.abc import Iterator
from pathlib import Path

from cyclopts.completion import CompletionContext

from cli.open_ledger import has_any_ledger, open_all_ledgers
from rowtide.ledger.ledger import all_runs

NEWEST = 20  # runs that are offered
JOBS = Path("jobs")


def job_names(_: CompletionContext) -> Iterator[str]:
    """The folders under jobs/ that hold a job.yaml."""
    return (file.parent.name for file in sorted(JOBS.glob("*/job.yaml")))


def run_ids(_: CompletionContext) -> Iterator[tuple[str, str]]:
    """The newest runs of each ledger here, with when they began."""
    if has_any_ledger():
        for ledger in open_all_ledgers():
            with ledger.view() as tx:
                yield from ((run.run_id, f"begun {run.started_at[:16]}") for run in all_runs(tx, limit=NEWEST))


def jobs_and_run_ids(context: CompletionContext) -> Iterator[tuple[str, str]]:
    """Where either is meant."""
    yield from ((name, "job") for name in job_names(context))
    yield from run_ids(context)

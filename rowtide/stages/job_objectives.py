"""Measures jobs' objectives from the ledger, and records since when each is breached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rowtide.errors import UserMistake
from rowtide.job.job_file import JOB_FILE, read_spec
from rowtide.job.job_spec import SloSpec
from rowtide.job.on_call import runbook_location
from rowtide.ledger import slo as ledger_slo
from rowtide.ledger.ledger import Ledger
from rowtide.observing.event_log import log_event
from rowtide.observing.slo import ObjectiveStatus, objective_statuses


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """A job's objectives and their present status."""

    job: str
    slo: SloSpec
    found: list[ObjectiveStatus]
    since: Mapping[str, datetime]
    """When each breached objective was first seen breached."""
    owner: str | None = None
    runbook: str | None = None

    @property
    def breached(self) -> list[ObjectiveStatus]:
        return [each for each in self.found if each.is_breached]


def watch_jobs(
    ledger: Ledger, folders: Sequence[Path], *, now: datetime, skip_unreadable: bool = False
) -> list[WatchedJob]:
    """Measure the jobs in these folders; jobs without objectives are left out.

    Raises UserMistake when a `job.yaml` cannot be read; with `skip_unreadable` that job is left out, and logged.
    """
    seen: list[WatchedJob] = []
    for folder in folders:
        try:
            seen.append(_watch(ledger, folder, now))
        except UserMistake as mistake:
            if not skip_unreadable:
                raise
            log_event("job_unreadable", str(mistake), {"job": folder.name}, is_warning=True)
    return [each for each in seen if each.found]


def folders_of_jobs(ledger: Ledger, jobs: Path) -> list[Path]:
    """Return the folders of the ledger's jobs as last run, and those under `jobs`; missing ones are left out."""
    with ledger.view() as tx:
        ran = [Path(folder) for folder in ledger_slo.job_folders(tx).values()]
    known = {folder.resolve() for folder in [*ran, *(file.parent for file in jobs.glob(f"*/{JOB_FILE}"))]}
    return sorted(folder for folder in known if (folder / JOB_FILE).is_file())


def _watch(ledger: Ledger, folder: Path, now: datetime) -> WatchedJob:
    spec = read_spec(folder)
    job = spec.job or folder.name
    if spec.slo.is_empty:
        return WatchedJob(job, spec.slo, [], {})
    with ledger.view() as tx:
        found = ledger_slo.measure_objectives(tx, job, since=now - timedelta(days=spec.slo.window_days), now=now)
        known = ledger_slo.breaches_since(tx, job)
    stand = objective_statuses(spec.slo, found)
    breached = [each.objective for each in stand if each.is_breached]
    if set(breached) != known.keys():
        with ledger.page() as tx:
            ledger_slo.record_breaches(tx, job, breached, now=now)
            known = ledger_slo.breaches_since(tx, job)
    return WatchedJob(job, spec.slo, stand, known, spec.owner, runbook_location(spec.runbook, folder))

"""Looking at what is promised of jobs: measured from the ledger, and since when each objective is breached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rowtide.job.job import SloSpec
from rowtide.job.job_file import JOB_FILE, read_spec
from rowtide.job.on_call import place_of
from rowtide.ledger import slo as ledger_slo
from rowtide.ledger.ledger import Ledger
from rowtide.observing.slo import Standing, standings


@dataclass(frozen=True, slots=True)
class Watched:
    """A job's objectives as they stand."""

    job: str
    slo: SloSpec
    found: list[Standing]
    since: Mapping[str, datetime]
    """Since when each is breached that is."""
    owner: str | None = None
    runbook: str | None = None

    @property
    def breached(self) -> list[Standing]:
        return [each for each in self.found if each.is_breached]


def watch(ledger: Ledger, folders: Sequence[Path], *, now: datetime) -> list[Watched]:
    """Look at the jobs in these folders; those without objectives are left out. Raises UserMistake."""
    seen = [_watch(ledger, folder, now) for folder in folders]
    return [each for each in seen if each.found]


def folders_of(ledger: Ledger, jobs: Path) -> list[Path]:
    """Where all jobs are: those of the ledger as they were last run, and those under `jobs`; the missing left out."""
    with ledger.view() as tx:
        ran = [Path(folder) for folder in ledger_slo.job_folders(tx).values()]
    known = {folder.resolve() for folder in [*ran, *(file.parent for file in jobs.glob(f"*/{JOB_FILE}"))]}
    return sorted(folder for folder in known if (folder / JOB_FILE).is_file())


def _watch(ledger: Ledger, folder: Path, now: datetime) -> Watched:
    spec = read_spec(folder)
    job = spec.job or folder.name
    if spec.slo.is_empty:
        return Watched(job, spec.slo, [], {})
    with ledger.view() as tx:
        found = ledger_slo.figures(tx, job, since=now - timedelta(days=spec.slo.window_days), now=now)
        known = ledger_slo.breached_since(tx, job)
    stand = standings(spec.slo, found)
    breached = [each.objective for each in stand if each.is_breached]
    if set(breached) != known.keys():
        with ledger.page() as tx:
            ledger_slo.note_breaches(tx, job, breached, now=now)
            known = ledger_slo.breached_since(tx, job)
    return Watched(job, spec.slo, stand, known, spec.owner, place_of(spec.runbook, folder))

"""Which jobs are due for a drift check."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from rowtide.errors import UserMistake
from rowtide.job.job_file import read_spec
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger.ledger import Ledger


def due_drift_checks(ledger: Ledger, folders: Sequence[Path], api: str, *, now: datetime) -> list[Path]:
    """Return the folders of jobs whose newest drift check on this API is older than `evals.drift_days`, or that had
    none. A job without `drift_days` is never due, nor is one whose `job.yaml` cannot be read.
    """
    return [folder for folder in folders if _is_due(ledger, folder, api, now)]


def _is_due(ledger: Ledger, folder: Path, api: str, now: datetime) -> bool:
    try:
        spec = read_spec(folder)
    except UserMistake:
        return False  # whoever watches its objectives has logged it
    if spec.evals.drift_days is None:
        return False
    with ledger.view() as tx:
        last = ledger_evals.last_drift_check(tx, spec.job or folder.name, api)
    return last is None or now - last >= timedelta(days=spec.evals.drift_days)

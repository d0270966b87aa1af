"""The summary of a run, read from its ledger as `rowtide` reads it."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from rowtide.ledger.ledger import Run
from rowtide.ledger.read.run_figures import read_run_figures
from rowtide.report.run_summary import run_summary
from rowtide.tiers.catalogue import load_catalogue


def summarize(tx: Connection, run: Run, *, now: datetime) -> dict[str, Any]:
    return run_summary(read_run_figures(tx, run, now=now, catalogue=load_catalogue()))

"""`rowtide slo [JOB]`."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
from cyclopts import Parameter
from rich.table import Table

from cli.homes import existing_ledger
from cli.say import out
from rowtide.errors import UserMistake
from rowtide.job.job_folder import find_job
from rowtide.observing.objectives import HEADINGS, as_cells, as_json
from rowtide.observing.watching import folders_of, watch

EXIT_BREACHED = 3


def slo(job: str | None = None, *, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Show what is promised of a job, or of all jobs, and how it is kept; exits 3 when an objective is breached.

    Parameters
    ----------
    job
        A name under jobs/, or a folder that holds a job.yaml; by default every job that has objectives.
    json
        Print one JSON object on stdout: job → its objectives.
    """
    now = datetime.now(UTC)
    with existing_ledger() as ledger:
        folders = [find_job(job, jobs=Path("jobs"))] if job else folders_of(ledger, Path("jobs"))
        watched = watch(ledger, folders, now=now)
    if not watched:
        raise UserMistake("nothing is promised: a job's objectives stand in its job.yaml, under `slo`", file=job)
    if json:
        said = {each.job: as_json(each.slo, each.found, each.since) for each in watched}
        sys.stdout.write(orjson.dumps(said).decode() + "\n")
    else:
        table = Table("job", *HEADINGS, "over", box=None, pad_edge=False)
        for each in watched:
            for cells in as_cells(each.found, each.since, now):
                table.add_row(each.job, *cells, f"{each.slo.window_days:g} days")
        out.print(table)
    return EXIT_BREACHED if any(each.breached for each in watched) else 0

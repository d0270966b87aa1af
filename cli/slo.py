"""`rowtide slo [JOB]`: show the objectives of a job, and whether they are met."""

from datetime import UTC, datetime
from pathlib import Path

from cli.open_ledger import has_any_ledger, open_existing_ledger
from cli.output import err, out, plain_table, print_json
from cli.shared_arguments import SomeJob
from rowtide.job.job_folder import find_job
from rowtide.observing.slo import HEADINGS, objectives_as_json, objectives_as_table
from rowtide.stages.job_objectives import WatchedJob, folders_of_jobs, watch_jobs

EXIT_BREACHED = 3


def slo(job: SomeJob = None, *, json: bool = False) -> int:
    """Show what is promised of a job, or of all jobs, and how it is kept.

    Exits 0 when every objective is kept, or none is promised; 3 when one is breached.

    Parameters
    ----------
    job
        A name under jobs/, or a folder that holds a job.yaml; by default every job that has objectives.
    json
        Print one JSON object on stdout: job → its objectives.
    """
    now = datetime.now(UTC)
    asked = [find_job(job, jobs=Path("jobs"))] if job else None
    watched: list[WatchedJob] = []
    if has_any_ledger():
        with open_existing_ledger() as ledger:
            watched = watch_jobs(ledger, asked or folders_of_jobs(ledger, Path("jobs")), now=now)
    if not watched:
        err.print(_nothing(asked[0].name if asked else "any job"))
    if json:
        objectives = {each.job: objectives_as_json(each.slo, each.found, each.since) for each in watched}
        print_json(objectives)
    elif watched:
        table = plain_table("job", *HEADINGS, "over")
        for each in watched:
            for cells in objectives_as_table(each.found, each.since, now):
                table.add_row(each.job, *cells, f"{each.slo.window_days:g} days")
        out.print(table)
    return EXIT_BREACHED if any(each.breached for each in watched) else 0


def _nothing(whom: str) -> str:
    if not has_any_ledger():
        return "nothing has run here yet, so there is nothing to measure"
    return f"nothing is promised of {whom}: a job's objectives stand in its job.yaml, under `slo`"

"""`rowtide run JOB`: run a job over its rows, from source to sink."""

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from cli.environment_checks import check_home
from cli.home_folders import home_folder, rehearse_without_key
from cli.numbers import Amount, Count
from cli.open_ledger import open_or_create_ledger
from cli.output import err
from cli.shared_arguments import JobName
from cli.terminal_run import (
    AsJson,
    AskedPrefect,
    Trust,
    Verbose,
    announce_rehearsal,
    checked_plan,
    run_to_end,
    use_prefect,
)
from rowtide.job.job_file import read_spec
from rowtide.job.job_folder import find_job
from rowtide.job.run_id import new_run_id
from rowtide.lanes.lane_table import AskedLane
from rowtide.ledger.ledger import ledger_url
from rowtide.stages.preflight import Plan
from rowtide.tools.kept_pool import RunCoroutine, one_event_loop


def run(
    job: JobName,
    *,
    source: Path | None = None,
    limit: Count | None = None,
    lane: AskedLane = "auto",
    budget: Amount | None = None,
    finish_within: Amount | None = None,
    min_loaded: Amount | None = None,
    prefect: AskedPrefect = None,
    trust: Trust = False,
    verbose: Verbose = False,
    json: AsJson = False,
) -> int:
    """Run a job over its rows, from source to sink. Rows that an earlier run settled just so are left unchanged.

    Parameters
    ----------
    source
        A file to read instead of the job's own source.
    limit
        Take only the first so many rows.
    lane
        How turns reach the model: in batches at half price, or live; auto decides, and says why.
    budget
        What the run may cost at worst, in US dollars; what would cross it is not sent, and the command exits 4.
    finish_within
        Minutes from now until it should be done; with auto, rows that batches would make late go live.
    min_loaded
        The fewest rows that must be in the sink at the end: a share below 1, or a number; with fewer the command exits
        5. By default what limits.min_loaded says, or one row.
    json
        Print one JSON object last on stdout.
    """
    folder = find_job(job, jobs=Path("jobs"))
    with one_event_loop() as on_loop:
        with use_prefect(prefect):
            run_id, found = _begin(folder, source, trust=trust, on_loop=on_loop)
        return run_to_end(
            run_id,
            on_loop=on_loop,
            plan=found,
            as_json=json,
            is_verbose=verbose,
            prefect=prefect,
            min_loaded=min_loaded,
            job=str(folder),
            source=str(source.resolve()) if source else None,
            limit=limit,
            lane=lane,
            budget=budget,
            finish_within_minutes=finish_within,
        )


def _begin(folder: Path, source: Path | None, *, trust: bool, on_loop: RunCoroutine) -> tuple[str, Plan]:
    """Check the job before any server is started, and name the run. Returns its id and the plan."""
    rehearse_without_key()
    found = checked_plan(folder, source, trust=trust, on_loop=on_loop)
    check_home(home_folder())
    open_or_create_ledger(ledger_url(os.environ.get("ROWTIDE_LEDGER"), home_folder())).close()
    announce_rehearsal(instead_of=read_spec(folder).sink, sink=found.job.spec.sink)
    already_printed = [f"source: {each}" for each in found.shape.notes] + [
        f"warning: {each}" for each in found.warnings
    ]
    run_id = new_run_id(folder.name, datetime.now(UTC), secrets.token_hex(2))
    err.lines([*already_printed, f"run {run_id} (if it stops: rowtide resume {run_id})"])
    return run_id, found

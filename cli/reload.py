"""`rowtide reload JOB|RUN`: load accepted answers into a sink again."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cli.completion import jobs_and_run_ids
from cli.home_folders import home_folder
from cli.open_ledger import open_existing_ledger
from cli.output import err, out
from rowtide.api.api_identity import OWN_EMULATOR, describe_api
from rowtide.errors import UserMistake
from rowtide.job.job_folder import load_job
from rowtide.job.job_spec import FolderKind, SinkSpec
from rowtide.ledger import answers as ledger_answers
from rowtide.ledger.ledger import Run
from rowtide.sinks.rehearsal_sink import with_rehearsal_sink
from rowtide.stages.load.reload_answers import Reloaded, reload_answers
from rowtide.text_format import shorten_text

EXIT_STOPPED = 1
NAMED_ROWS = 5  # rows that a sink cannot hold, by name


def reload_(
    name: Annotated[str, Parameter(name="job-or-run", completer=jobs_and_run_ids)],
    *,
    sink: str | None = None,
    table: str | None = None,
    kind: FolderKind = "parquet",
) -> int:
    """Load accepted answers again, into any sink: those of a run, or the newest of each row of a job. Nothing is asked.

    A run whose load failed is got out so, a lost table filled again. No row is there twice, however often it is done.

    Parameters
    ----------
    name
        A job's name, or a run's id as `rowtide runs` lists it.
    sink
        A folder, or a SQLAlchemy URL with --table; by default the job's sink as job.yaml says now.
    table
        The table, or schema.table, where the sink is a URL.
    kind
        What to write into a folder.
    """
    with open_existing_ledger(run=name, job=name) as ledger:
        with ledger.view() as tx:
            runs = ledger_answers.runs_by_name(tx, name)
        newest = runs[0]
        job = with_rehearsal_sink(load_job(Path(newest.job_folder)), newest.api)
        spec = _asked(newest, sink, table, kind) if sink else job.spec.sink
        folder = Path.cwd() if sink else job.folder  # what a person says, and what the job says
        done = reload_answers(ledger, runs, job, spec, home_folder(), os.environ, folder, now=datetime.now(UTC))
    _print_reloaded(done, newest)
    return EXIT_STOPPED if done.refused else 0


def _asked(run: Run, sink: str, table: str | None, kind: FolderKind) -> SinkSpec:
    """The sink that was asked for; its folder is relative to the current one. Raises UserMistake."""
    if "://" not in sink:
        if table:
            raise UserMistake("a table is in a database: give its URL, --sink postgresql://…", key="--table")
        return SinkSpec(kind=kind, path=Path(sink).resolve())
    if not table:
        raise UserMistake("say which table: --table NAME", key="--sink")
    if run.api == OWN_EMULATOR:
        raise UserMistake(f"run {run.run_id} is a rehearsal: its made-up answers go into a folder only", key="--sink")
    return SinkSpec(kind="sql", url=sink, table=table)


def _print_reloaded(done: Reloaded, run: Run) -> None:
    made_up = f", made up by {describe_api(run.api, is_made_up=True)}" if run.made_up else ""
    out.print(f"{done.rows:,} rows loaded into {done.sink}{made_up}; nothing was asked, $0")
    if done.newer:
        out.print(f"{done.newer:,} left as they are there: a later run loaded them")
    for key, why in list(done.refused.items())[:NAMED_ROWS]:
        err.print(f"not loaded: {shorten_text(key)}: {shorten_text(why)}")
    if len(done.refused) > NAMED_ROWS:
        err.print(f"not loaded: {len(done.refused) - NAMED_ROWS:,} more")

"""`rowtide purge`: delete the text of old rows; counts and money stay."""

import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cli.home_folders import home_folder, is_in_rehearsal
from cli.open_ledger import open_existing_ledger
from cli.output import out, plain_table
from cli.shared_arguments import SomeJob, SomeRun
from rowtide.errors import UserMistake
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import purge_text as ledger_purge_text
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.purge_text import PurgeableEval
from rowtide.stages.wait.poll_batches import CANCELED

AGE = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,9})?) ?(h|d|w)?")
HOURS = {"h": 1, "d": 24, "w": 168, None: 24}


def purge(
    *,
    older_than: str | None = None,
    job: SomeJob = None,
    run: SomeRun = None,
    key: str | None = None,
    yes: bool = False,
) -> int:
    """Delete rows' text, replies, tool outputs, messages, files and reports. Counts, money, keys and the sink stay.

    Parameters
    ----------
    older_than
        Runs that began so long ago: 30d, 12h, 8w.
    job
        Runs of this job.
    run
        This run.
    key
        Only rows with this key.
    yes
        Do it.
    """
    if not (older_than or job or run or key):
        raise UserMistake("say what: --older-than 30d, --job JOB, --run RUN or --key KEY")
    now = datetime.now(UTC)
    before = now - _age(older_than) if older_than else None
    with open_existing_ledger(run=run, row_key=key, job=job) as ledger:
        with ledger.view() as tx:
            if run:
                ledgers.find_run(tx, run)
            found = ledger_purge_text.purgeable_runs(tx, job=job, run_id=run, key=key, before=before)
            evals = [] if run else ledger_purge_text.purgeable_evals(tx, job=job, key=key, before=before)
        chosen = _purgeable(ledger, found, is_named=run is not None)
        _list(ledger, chosen, evals, key)
        if not yes:
            out.print("nothing was deleted; with --yes it is")
            return 0
        for each in evals:  # its copies of both versions, with the rows that it asked
            shutil.rmtree(home_folder() / "evals" / Path(each.eval_id).name, ignore_errors=True)
            (home_folder() / "reports" / f"{Path(each.eval_id).name}.html").unlink(missing_ok=True)
        with ledger.page() as tx:
            ledger_purge_text.purge_evals(tx, evals, key)
            judged = ledger_purge_text.runs_of_judges(tx, evals) if key else []
        for each in judged:
            _remove_files(home_folder(), each.run_id)
            ledger_purge_text.purge_run(ledger, each, None, now=now)
        _delete(ledger, chosen, key, now)
    out.print("deleted; what was loaded into a sink is there still")
    return 0


def _delete(ledger: Ledger, runs: Sequence[Run], key: str | None, now: datetime) -> None:
    """Delete the text of rows. Repeating it finishes a purge that was killed, freeing disk space in any case."""
    for each in runs:
        if each.stopped == CANCELED:
            ledger_purge_text.quarantine_unfinished_rows(ledger, each, now=now)
        _remove_files(home_folder(), each.run_id)
        ledger_purge_text.purge_run(ledger, each, key, now=now)
    ledger_purge_text.reclaim_space(ledger)
    if is_in_rehearsal():
        for folder in ("emulator", "emulator_answers"):  # what it was sent, and made up; and what it was told
            shutil.rmtree(home_folder() / folder, ignore_errors=True)


def _age(text: str) -> timedelta:
    if (found := AGE.fullmatch(text.strip())) is None:
        raise UserMistake(f"{text!r} is no age, such as 30d, 12h or 8w", key="--older-than")
    return timedelta(hours=float(found[1]) * HOURS[found[2]])


def _purgeable(ledger: Ledger, found: Sequence[Run], *, is_named: bool) -> list[Run]:
    """The runs whose rows are all settled, or that were canceled. Raises UserMistake where the one named is not."""
    chosen: list[Run] = []
    for run in found:
        with ledger.view() as tx:
            waiting = ledger_purge_text.count_unfinished_rows(tx, run)
            at_the_api = ledger_batches.batches_in_states(tx, run, ["packing", "packed", "posting", "open"])
        if not waiting or (run.stopped == CANCELED and not at_the_api):
            chosen.append(run)
            continue
        words = f"run {run.run_id} is in progress: {waiting:,} of its rows are not settled"
        help_ = f"`rowtide resume {run.run_id}`, or `rowtide cancel {run.run_id}` to purge it as it is"
        if is_named:
            raise UserMistake(f"{words}. {help_}")
        out.print(f"left: {words}. {help_}")
    return chosen


def _list(ledger: Ledger, runs: Sequence[Run], evals: Sequence[PurgeableEval], key: str | None) -> None:
    table = plain_table("run or eval", "job", "began", numbers=["rows"])
    for run in runs:
        with ledger.view() as tx:
            rows = ledger_purge_text.count_purgeable_rows(tx, run, key)
        table.add_row(run.run_id, run.job, run.started_at[:19], f"{rows:,}")
    for each in evals:
        table.add_row(each.eval_id, f"{each.job} (its golden rows)", each.started_at[:19], f"{each.rows:,}")
    if runs or evals:
        out.print(table)
    else:
        out.print("there is nothing to purge")


def _remove_files(folder: Path, run_id: str) -> None:
    """Delete a run's files: request bodies, its report, its gates' pages."""
    name = Path(run_id).name
    for place in (folder / "spool" / name, folder / "reports" / name):
        shutil.rmtree(place, ignore_errors=True)
    for ending in (".html", ".json"):
        (folder / "reports" / f"{name}{ending}").unlink(missing_ok=True)

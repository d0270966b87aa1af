"""`rowtide recheck RUN|JOB`: judge stored answers again under today's checks and gates."""

import os
from pathlib import Path

from cli.home_folders import home_folder
from cli.open_ledger import open_existing_ledger
from cli.output import out
from cli.shared_arguments import sign
from rowtide.api.api_identity import api_in_environment
from rowtide.job.job_folder import find_job, load_job
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import rechecks as ledger_rechecks
from rowtide.sinks.rehearsal_sink import with_rehearsal_sink
from rowtide.sinks.sinks import open_sink
from rowtide.stages.amend.recheck_answers import Rechecked, recheck_answers


def recheck_(target: str, *, dry_run: bool = False, take_out: bool = False) -> int:
    """Judge stored answers again under today's checks and gates. Nothing is asked, and it costs nothing.

    A quarantined row whose last answer passes today is accepted, and loaded when the run goes on (`rowtide resume`). An
    answer that is accepted or loaded and fails today is reported, and stays where it is unless you say --take-out. What
    is judged: the answer model, the job's checks, grounding, and the gate over answers, row by row; gates over whole
    runs are judged at the next load. A row whose self-check no model has taken remains in quarantine.

    Parameters
    ----------
    target
        A run's id, for all its answers; or a job, for the answers that stand in its sink today, whichever run they are
        of.
    dry_run
        Only say what passes and what fails.
    take_out
        Take what fails out of the sink, and quarantine its rows with what was wrong (`recheck_failed`).
    """
    hand, takes_out = sign(), take_out and not dry_run
    with open_existing_ledger(target) as ledger:
        with ledger.view() as tx:
            run = ledgers.find_run(tx, target) if ledgers.has_run(tx, target) else None
        folder = Path(run.job_folder) if run else find_job(target, jobs=Path("jobs"))
        job = with_rehearsal_sink(load_job(folder), run.api if run else api_in_environment(os.environ))
        sink = open_sink(job.spec.sink, home_folder(), job.answer, os.environ, job.folder)[0]
        with ledger.view() as tx:
            runs = [run.run_id] if run else ledger_rechecks.runs_in_sink(tx, job.name, sink.location)
        for each in runs:
            found = recheck_answers(
                ledger, each, job, sink, hand, only_loaded=not run, is_dry=dry_run, takes_out=takes_out
            )
            for line in recheck_text(each, found, is_dry=dry_run, took_out=take_out):
                out.print(line)
        if not runs:
            out.print(f"nothing of {job.name} stands in {sink.location}")
    return 0


def recheck_text(run: str, found: Rechecked, *, is_dry: bool, took_out: bool) -> list[str]:
    """Return the outcome of a recheck, a line for each number."""
    lines = [f"run {run}: {found.judged:,} answers judged by today's checks and gates; nothing was asked, $0.00"]
    lines.append(f"  {found.stand:>9,} accepted or loaded that pass")
    if found.fail:
        lines.append(f"  {found.fail:>9,} accepted or loaded that fail")
        lines += [
            f"  {rows:>9,}   {what} (for example {', '.join(found.examples[what])})"
            for what, rows in found.problems.most_common()
        ]
    if found.accepted:
        lines.append(f"  {found.accepted:>9,} quarantined that pass{'' if is_dry else ', and are accepted'}")
    if found.still_fail:
        lines.append(f"  {found.still_fail:>9,} quarantined that fail as before")
    if found.taken_out:
        lines.append(f"  {found.taken_out:>9,} taken out of the sink, and quarantined as recheck_failed")
    if found.elsewhere:
        lines.append(f"  {found.elsewhere:>9,} stand in another sink than the job names today, and were left there")
    if found.fail and not took_out:
        lines.append(f"take what fails out of the sink with: rowtide recheck {run} --take-out")
    if found.accepted and not is_dry:
        lines.append(f"load what was accepted with: rowtide resume {run}")
    return lines

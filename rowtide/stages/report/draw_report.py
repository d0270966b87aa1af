"""Draws a run's report page from the ledger to a file.

Run as a program (`python -m rowtide.stages.report.draw_report`, its arguments as JSON on stdin), it draws in a process
of its own: charts take a second of CPU and a JavaScript engine's memory, and a crash there does not touch the run.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rowtide.errors import UserMistake
from rowtide.escaping import relative_link
from rowtide.evals.comparers import Comparer
from rowtide.evals.golden_rows import GOLDEN_FILE, read_golden_rows
from rowtide.evals.job_golden import comparers_of_job, without_judged
from rowtide.job.job_folder import load_job
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read.report_data import read_report_data
from rowtide.ledger.read.run_figures import read_run_figures
from rowtide.report.report_page import render_report_page
from rowtide.report.run_summary import run_summary
from rowtide.report.summary_text import gate_lines
from rowtide.stages.report.page_program import draw_by_order, write_page
from rowtide.tiers.catalogue import load_catalogue


def draw_report(ledger: Ledger, run_id: str, file: Path, *, now: datetime) -> None:
    """Write the report page of a run. Raises UserMistake when the run or its golden rows cannot be read."""
    with ledger.view() as tx:
        run = ledgers.find_run(tx, run_id)
        figures = read_run_figures(tx, run, now=now, catalogue=load_catalogue())
        rows = read_golden_rows(Path(run.job_folder) / GOLDEN_FILE)
        comparers = _comparers(Path(run.job_folder)) if rows else {}
        golden = {row.key: known for row in rows if (known := without_judged(row.answer, comparers))}
        seen = read_report_data(tx, run, golden=golden, comparers=comparers, now=now)
    found = run_summary(figures)
    write_page(file, render_report_page(found, seen, gates=_gates(found, file), now=now))


def _comparers(folder: Path) -> dict[str, Comparer]:
    """How each field of the job's answers is compared. None is known of a job that cannot be loaded any more: a report
    of an old run is drawn all the same."""
    try:
        return comparers_of_job(load_job(folder))
    except UserMistake:
        return {}


def _gates(found: Mapping[str, Any], file: Path) -> list[dict[str, str]]:
    """Return what each gate found, with a relative link to its own page if that exists."""
    pages = {gate: Path(found["run_id"], gate, "index.html") for gate in found["gates"]}
    links = {gate: relative_link(page) if (file.parent / page).is_file() else "" for gate, page in pages.items()}
    return [{"name": gate, "message": text, "link": links[gate]} for gate, text in gate_lines(found).items()]


def main() -> None:
    """Draw the report that stdin orders, with `run_id`."""
    draw_by_order(lambda ledger, given, file, now: draw_report(ledger, given["run_id"], file, now=now))


if __name__ == "__main__":
    main()

"""`rowtide report [RUN]`: draw a run as one page of HTML."""

import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cli.home_folders import home_folder
from cli.open_ledger import open_existing_ledger
from cli.output import err, out, short_path
from cli.shared_arguments import NewestRunId
from rowtide.ledger.ledger import find_run
from rowtide.stages.report.draw_report import draw_report


def report(
    run: NewestRunId = None,
    *,
    to: Path | None = None,
    open_it: Annotated[bool, Parameter(name="--open")] = False,
) -> None:
    """Draw a run as one page of HTML, also while it goes on: what came of it, and what waits for a person.

    Parameters
    ----------
    to
        Where to write the page; by default beside the run's summary.
    open_it
        Show it in a browser.
    """
    with open_existing_ledger(run, newest=True) as ledger:
        with ledger.view() as tx:
            run_id = find_run(tx, run).run_id
        file = (to or home_folder() / "reports" / f"{run_id}.html").resolve()
        draw_report(ledger, run_id, file, now=datetime.now(UTC))
    out.print(short_path(file))
    if open_it and not webbrowser.open(file.as_uri()):
        err.print("no browser could be opened here")

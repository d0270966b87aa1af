"""Live progress on stderr, read from the ledger: it shows what is committed and nothing else."""

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from rich.live import Live
from rich.text import Text

from cli.say import err, existing_ledger, home
from rowtide.ledger import Ledger, has_run
from rowtide.ledger_story import progress
from rowtide.states import RowState

LOOK_EVERY_SECONDS = 1.0


@contextmanager
def watching(run_id: str) -> Generator[None]:
    """Show a run's progress until the block ends."""
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run_id, stop), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _watch(run_id: str, stop: threading.Event) -> None:
    while not (home() / "ledger.db").is_file() and "ROWTIDE_LEDGER" not in os.environ:
        if stop.wait(LOOK_EVERY_SECONDS):
            return
    with existing_ledger() as ledger:
        if err.is_terminal:
            with Live(console=err, refresh_per_second=4, transient=True) as live:
                while not stop.wait(LOOK_EVERY_SECONDS):
                    live.update(Text(_line(ledger, run_id)))
            return
        last = ""
        while not stop.wait(LOOK_EVERY_SECONDS):
            if (line := _line(ledger, run_id)) != last:
                err.print(line, markup=False)
                last = line


def _line(ledger: Ledger, run_id: str) -> str:
    """One line of progress, or nothing before the run is recorded."""
    with ledger.view() as tx:
        return _in_words(progress(tx, run_id)) if has_run(tx, run_id) else ""


def _in_words(found: dict[str, Any]) -> str:
    states = " · ".join(f"{found['states'][state]:,} {state.value}" for state in RowState if found["states"][state])
    return f"{states} | {found['batches']} batches, {found['batches_open']} at the API | ${found['cost_usd']:.4f}"

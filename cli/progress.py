"""Live progress of a run on stderr, read from the ledger: only what is committed."""

import os
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from cli.home_folders import home_folder
from cli.open_ledger import open_existing_ledger
from cli.output import err, plain_line
from rowtide.agent.states import RowState
from rowtide.escaping import one_line
from rowtide.lanes.lane_table import LANES
from rowtide.ledger.ledger import Ledger, find_run, has_run
from rowtide.ledger.read.pace_of_earlier_runs import Pace, read_pace
from rowtide.ledger.read.progress import Progress, read_progress
from rowtide.observing.supervision import Background, supervise_thread
from rowtide.text_format import format_age

LOOK_EVERY_SECONDS = 1.0
LINES_SHOWN = 6
# Settled rows first, so that the bar fills from the left.
COLOURS = {
    RowState.LOADED: "green",
    RowState.UNCHANGED: "bright_black",
    RowState.QUARANTINED: "red",
    RowState.HELD: "yellow",
    RowState.ACCEPTED: "cyan",
    RowState.ANSWERED: "cyan",
    RowState.REPLIED: "magenta",
    RowState.IN_FLIGHT: "blue",
    RowState.READY: "white",
}

Lines = Callable[[], Sequence[str]]
"""What else there is to show, newest last: words that are being streamed, for one."""


def no_extra_lines() -> Sequence[str]:
    return ()


@contextmanager
def watch_progress(run_id: str, lines: Lines = no_extra_lines) -> Generator[None]:
    """Show a run's progress until the block ends."""
    stop = threading.Event()
    background = Background("the progress display", "the run itself goes on")
    watch = partial(_watch, run_id, lines, stop)
    watcher = threading.Thread(target=supervise_thread, args=(background, watch, stop), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def _watch(run_id: str, lines: Lines, stop: threading.Event) -> None:
    while not (home_folder() / "ledger.db").is_file() and "ROWTIDE_LEDGER" not in os.environ:
        if stop.wait(LOOK_EVERY_SECONDS):
            return
    with open_existing_ledger() as ledger:
        if err.is_terminal:
            pace_of = lru_cache(partial(_pace, ledger, run_id))  # asked for once, when the lane is chosen
            with Live(console=err, refresh_per_second=4, transient=True) as live:
                while not stop.wait(LOOK_EVERY_SECONDS):
                    if seen := _look(ledger, run_id):
                        now = datetime.now(UTC)
                        live.update(progress_panel(seen, lines(), pace=pace_of(seen.lane), width=err.width, now=now))
            return
        last = ""
        while not stop.wait(LOOK_EVERY_SECONDS):
            if (seen := _look(ledger, run_id)) and (line := progress_line(seen)) != last:
                err.print(line)
                last = line


def _look(ledger: Ledger, run_id: str) -> Progress | None:
    """The run as it stands, or None before it is recorded."""
    with ledger.view() as tx:
        return read_progress(tx, find_run(tx, run_id)) if has_run(tx, run_id) else None


def _pace(ledger: Ledger, run_id: str, lane: str) -> Pace | None:
    """How earlier runs went on this lane; None before one is chosen."""
    if lane not in LANES:
        return None
    with ledger.view() as tx:
        return read_pace(tx, find_run(tx, run_id))


def progress_line(seen: Progress) -> str:
    """Return the progress as one line, which changes only when the run does."""
    return f"{seen.standing} | {seen.at_api()} | {seen.money}"


def progress_panel(
    seen: Progress, lines: Sequence[str], *, width: int, now: datetime, pace: Pace | None = None
) -> Panel:
    """Return the progress as a panel for a terminal, with further lines below. `pace` says when it may be over."""
    settled = f"reading rows: {seen.rows:,} so far" if seen.is_reading else f"{seen.settled:,} of {seen.rows:,} settled"
    outlook = f" {pace.outlook(seen, now)}" if pace and not seen.is_reading and seen.settled < seen.rows else ""
    figures = [f"{settled} · {seen.money}{outlook}", seen.standing, seen.at_api(now)]
    also = [Text(one_line(line)[: width - 4], style="dim", no_wrap=True) for line in lines[-LINES_SHOWN:]]
    title = plain_line(f"{seen.run_id} · {seen.lane} · {format_age(now - seen.began_at)}")
    return Panel(Group(state_bar(seen, width - 4), *map(plain_line, figures), *also), title=title, title_align="left")


def state_bar(seen: Progress, width: int) -> Text:
    """Return the rows by state, as a bar; a state that has any rows has at least one cell."""
    drawn = Text(no_wrap=True)
    for state, colour in COLOURS.items():
        if rows := seen.states[state]:
            drawn.append("█" * max(round(rows / seen.rows * width), 1), style=colour)
    drawn.truncate(width)
    return drawn

"""`python -m chaos`: kill it everywhere, and count what that cost."""

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from chaos.commands import kill_commands
from chaos.endings import KINDS
from chaos.faults import any_faults
from chaos.kill import (
    EVERY_SIDE,
    Result,
    ground,
    kill_everywhere,
    kill_twice,
    sigkill,
    sigkill_live,
    to_stderr,
    two_workers,
)

MOST_SHOWN = 40
WIDTH = 132


def main() -> None:
    options = _parser().parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    results = _break(folder, short=options.short, seed=options.seed)
    console = Console(soft_wrap=True, width=WIDTH)
    _show(console, results)
    if any(result.failures for result in results):
        console.print(f"Every run's ledger, sink and log: {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--short", action="store_true", help="die only after each effect; a few of the rest")
    parser.add_argument("--seed", type=int, default=0, help="which moments are drawn (default: 0)")
    return parser


def _break(folder: Path, *, short: bool, seed: int) -> list[Result]:
    twice, runs, kills, pairs, plans = (10, 5, 4, 2, 20) if short else (60, 20, 6, 10, 200)
    with ground(folder, say=to_stderr) as here:
        return [
            kill_everywhere(here, sides=EVERY_SIDE[1:] if short else EVERY_SIDE),
            kill_commands(here, sides=EVERY_SIDE[1:] if short else EVERY_SIDE),
            kill_twice(here, twice, seed=seed),
            sigkill(here, runs, kills=kills, seed=seed),
            sigkill_live(here, runs, kills=kills, seed=seed),
            two_workers(here, pairs, is_one_killed=True, seed=seed),
            two_workers(here, pairs, is_one_killed=False, seed=seed),
            any_faults(here, plans, seed=seed),
        ]


def _show(console: Console, results: list[Result]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("tried")
    for name in ("runs", "lives", *KINDS):
        table.add_column(name, justify="right")
    for result in results:
        counts = [len(result.trials), result.lives, *(result.count(kind) for kind in KINDS)]
        table.add_row(result.name, *(f"{count:,}" for count in counts))
    console.print(table)
    failures = [failure for result in results for failure in result.failures]
    for failure in failures[:MOST_SHOWN]:
        console.print(f"- {failure.kind}: {failure.after}: {failure.detail}", markup=False, highlight=False)
    if len(failures) > MOST_SHOWN:
        console.print(f"- and {len(failures) - MOST_SHOWN:,} more")
    _show_left_behind(console, results)


def _show_left_behind(console: Console, results: list[Result]) -> None:
    """Not a failure: files of a batch's passage that a resumed run never cleared away."""
    trials = [trial for result in results for trial in result.trials]
    found = [(name.partition(".")[2], trial.after) for trial in trials for name in trial.left_behind]
    for name, count in Counter(name for name, _ in found).most_common():
        first = next(after for each, after in found if each == name)
        console.print(f"left in the spool: {count:,} × {name}, as when it {first}", markup=False, highlight=False)


if __name__ == "__main__":
    main()

"""`python -m chaos.service`: kill the parts of `make serve` all at once, again and again, while work comes in.

Server, worker, receiver and flows get SIGKILL at random moments; now and then their guardians too, or `make serve`,
which is then started again, as systemd does. A sender brings messages and asks for runs meanwhile, and repeats what is
not answered. In the end every row is in its sink once, paid for once, and nothing is left running. Nobody helps.
"""

import argparse
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from chaos.endings import bill_of, sink_of
from chaos.kill import to_stderr
from chaos.lives import emulator
from chaos.served import START_SECONDS, Service, Traffic, wait

BATCH_SECONDS = "1..15"
FLUSH_SECONDS = 90  # of `rowtide serve`: rows are due when they are 60 s old, and that is said each 30 s
BETWEEN_SECONDS = (15.0, 90.0)  # two kills
PERIODS = 2  # of the watch, within which everything goes on
DONE_SECONDS = 900  # a run that parks after each turn waits for the watch each time


@dataclass(frozen=True, slots=True)
class Came:
    """What came of it."""

    kills: int
    rows: int
    runs: int
    went_on_after: float
    """Seconds from the last kill until a process worked on each run that was asked for or under way then."""
    done_after: float
    """Seconds until all that had come was done."""
    stood_still: list[str]
    lost: list[str]
    doubled: list[str]
    paid_twice: list[str]
    left: list[str]
    """Processes that should be gone, and others that should be there."""

    @property
    def failures(self) -> list[str]:
        return [*self.stood_still, *self.lost, *self.doubled, *self.paid_twice, *self.left]


def kill_service(
    folder: Path,
    kills: int,
    *,
    seed: int = 0,
    watch_seconds: int | None = None,
    between: tuple[float, float] = BETWEEN_SECONDS,
) -> Came:
    """Kill it so often, at random moments; then wait until all that came is done."""
    with emulator(folder / "api", BATCH_SECONDS) as api_url:
        service = Service(folder, api_url, watch_seconds)
        try:
            service.start()
            return _kill(service, kills, random.Random(seed), between)
        finally:
            service.end()


def _kill(service: Service, kills: int, chance: random.Random, between: tuple[float, float]) -> Came:
    traffic = Traffic(service)
    sender = threading.Thread(target=traffic.work, daemon=True)
    sender.start()
    for number in range(1, kills + 1):
        time.sleep(chance.uniform(*between))
        is_whole, are_guardians = number % 5 == 0, number % 3 == 0
        also = f"{', guardians too' if are_guardians else ''}{', make serve too' if is_whole else ''}"
        to_stderr(f"kill {number} of {kills}{also}: {_state(service, traffic)}")
        service.kill(is_whole=is_whole, are_guardians=are_guardians)
    killed_at, under_way = datetime.now(UTC), _undone(service, traffic)
    traffic.end()
    sender.join(START_SECONDS)
    wait(lambda: not _undone(service, traffic), DONE_SECONDS, say=lambda: to_stderr(_state(service, traffic)))
    return _came(service, traffic, kills, killed_at, under_way.keys())


def _came(service: Service, traffic: Traffic, kills: int, killed_at: datetime, under_way: Collection[str]) -> Came:
    done_after = (datetime.now(UTC) - killed_at).total_seconds()
    undone = _undone(service, traffic)
    lost = [f"{job}: {len(keys)} rows are not done, as {keys[0]}" for job, keys in undone.items()]
    doubled: list[str] = []
    for job, keys in traffic.wanted.items():
        found, twice, _ = sink_of(service.home.folder / job)
        doubled += [f"{job}: {key} stands in the sink twice" for key in twice]
        if job not in undone and (missing := [key for key in keys if key not in found]):
            lost.append(f"{job}: {len(missing)} rows are loaded, and not in the sink, as {missing[0]}")
    ours = _ask(service, "SELECT count(*), coalesce(sum(cost_micro), 0) FROM turn")[0]
    bill = bill_of(service.home)
    theirs = bill["requests"], bill["cost_micro"]
    paid = [
        f"the API billed {billed} {what}, the ledger knows {known}"
        for what, billed, known in zip(("replies", "micro-dollars"), theirs, ours, strict=True)
        if billed != known and not undone  # what is on its way has been billed
    ]
    rows = sum(map(len, traffic.wanted.values()))
    after = {job: _went_on(service, job, killed_at) for job in under_way}
    within = PERIODS * service.watch_seconds + FLUSH_SECONDS
    still = [f"{job}: nobody worked on it within {within} s" for job, s in after.items() if s is None or s > within]
    went_on_after = max((seconds for seconds in after.values() if seconds is not None), default=0.0)
    runs = len(traffic.wanted) - 1
    return Came(kills, rows, runs, went_on_after, done_after, still, lost, doubled, paid, service.stop())


def _went_on(service: Service, job: str, since: datetime) -> float | None:
    """Seconds until a flow run began to work on the job's runs."""
    begun = f"SELECT min(f.since) FROM flow_run f JOIN run USING (run_no) WHERE job = '{job}' AND restarted IS NULL "
    ((first,),) = _ask(service, f"{begun} AND f.since > '{since.isoformat()}'")
    return (datetime.fromisoformat(str(first)) - since).total_seconds() if first else None


def _undone(service: Service, traffic: Traffic) -> dict[str, list[str]]:
    """What was taken and is not loaded yet: job → keys."""
    loaded = {key for (key,) in _ask(service, "SELECT row_key FROM row WHERE state = 'loaded'")}
    open_runs = {job for (job,) in _ask(service, "SELECT job FROM run WHERE finished_at IS NULL")}
    undone = {
        job: [key for key in keys if key not in loaded or job in open_runs]
        for job, keys in list(traffic.wanted.items())
    }
    return {job: keys for job, keys in undone.items() if keys}


def _state(service: Service, traffic: Traffic) -> str:
    undone, runs = _undone(service, traffic), _ask(service, "SELECT count(*), count(finished_at) FROM run")[0]
    return (
        f"{sum(map(len, traffic.wanted.values()))} rows taken, {sum(map(len, undone.values()))} not done "
        f"({', '.join(undone)}); {runs[1]} of {runs[0]} runs over"
    )


def _ask(service: Service, query: str) -> list[tuple[object, ...]]:
    file = service.home.folder / "ledger.db"
    if not file.is_file():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)) as ledger:
        return ledger.execute(query).fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m chaos.service", description="Kill the parts of make serve.")
    parser.add_argument("kills", type=int, nargs="?", default=20, help="how often (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="which moments are drawn (default: 0)")
    parser.add_argument("--watch-seconds", type=int, help="period of the watch (default: as in prefect.yaml)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    came = kill_service(folder, options.kills, seed=options.seed, watch_seconds=options.watch_seconds)
    table = Table(box=box.SIMPLE_HEAD)
    figures = {
        "kills": came.kills,
        "rows": came.rows,
        "runs": came.runs,
        "went on after": f"{came.went_on_after:.0f} s",
        "done after": f"{came.done_after:.0f} s",
        "stood still": len(came.stood_still),
        "lost": len(came.lost),
        "doubled": len(came.doubled),
        "paid twice": len(came.paid_twice),
        "processes left": len(came.left),
    }
    for name in figures:
        table.add_column(name, justify="right")
    table.add_row(*map(str, figures.values()))
    console = Console(soft_wrap=True, width=132)
    console.print(table)
    for failure in came.failures:
        console.print(f"- {failure}", markup=False, highlight=False)
    if came.failures:
        console.print(f"Its home, its logs, and what make serve said: {folder}")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

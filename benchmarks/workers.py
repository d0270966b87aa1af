"""Many workers on one run, in PostgreSQL: `python -m benchmarks.workers [ROWS] [WORKERS…]`.

Each number of workers takes the same rows from source to sink, in a ledger of its own: processes that are told the same
run and nothing else. Then the largest number does it again while half of them are killed in the middle of something.
Every end is compared with the first one's: the rows in the sink, the states in the ledger, and what the API billed.
"""

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.dataset as ds
import yaml

from benchmarks.running import JOBS
from benchmarks.servers import postgres
from benchmarks.sources import source
from chaos.endings import bill_of
from chaos.lives import Home, begin, emulator

ROWS = 200_000
WORKERS = (1, 2, 4)
BATCHES = 20
LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True)
class End:
    """What a run came to, and what it took."""

    answers: list[tuple[Any, ...]]
    states: dict[str, int]
    batches: int
    billed_micro: int
    spent_micro: int
    wall_seconds: float
    cpu_seconds: float
    """Of the workers: not of PostgreSQL, nor of the emulator."""
    killed: tuple[str, ...] = ()
    """What each that was killed had in hand."""


def main() -> None:
    """Let them race, and print what came of it."""
    rows, *workers = (int(word) for word in sys.argv[1:]) if len(sys.argv) > 1 else (ROWS, *WORKERS)
    workers = workers or list(WORKERS)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        socket = stack.enter_context(postgres().server())
        api_url = stack.enter_context(emulator(place / "emulator", "0..0.2"))
        job = _job(place, rows)
        ends: dict[str, End] = {}
        for count, kills in _races(workers):
            name = f"{count} worker{'s' * (count > 1)}" + (f", {kills} killed" if kills else "")
            with postgres().database(socket, f"race_{len(ends)}") as url:
                home = Home(place / f"home-{len(ends)}", api_url, job, ledger=url)
                ends[name] = _race(home, count, kills)
            first = next(iter(ends.values()))
            _check(name, ends[name], first, rows)
            _say(name, ends[name], first, rows)
    print(f"each time the same {first.states['loaded']:,} rows are loaded, each once, and what was billed was filed")


def _races(workers: list[int]) -> list[tuple[int, int]]:
    """(workers, how many of them are killed): the first, by which the others are judged; half of the most; the rest."""
    first, *others = workers
    return [(first, 0), (max(workers), max(workers) // 2), *((count, 0) for count in others)]


def _job(place: Path, rows: int) -> Path:
    job = Path(shutil.copytree(JOBS / "one_turn", place / "job"))
    shutil.copy(source(place, "messages", rows), job / "rows.csv")
    spec = yaml.safe_load((job / "job.yaml").read_text())
    size = max(1, rows // BATCHES)
    spec |= {"sink": {"path": "results"}, "limits": {"batch_rows": size, "enough_rows": size}}
    (job / "job.yaml").write_text(yaml.safe_dump(spec))
    return job


def _race(home: Home, workers: int, kills: int) -> End:
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    going = [begin(home) for _ in range(workers)]
    killed = [_kill(home, going, BATCHES * (n + 1) // (kills + 2)) for n in range(kills)]
    for pid in going:
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, home.log.read_text()[-3000:]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return _end(home, time.perf_counter() - begun, cpu_seconds, tuple(killed))


def _kill(home: Home, going: list[int], batches: int) -> str:
    """SIGKILL one that has something in hand, once so many batches are filed. Returns what it had."""
    while True:
        with _connected(home) as connection:
            for holder, what in connection.execute(IN_HAND, {"filed": batches}).fetchall() if _is_there(home) else ():
                if (pid := int(holder.rsplit(":", 3)[1])) in going:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    going.remove(pid)
                    return str(what)
        assert all(Path(f"/proc/{pid}").exists() for pid in going), home.log.read_text()[-3000:]
        time.sleep(LOOK_AGAIN_SECONDS)


IN_HAND = """
SELECT holder, what FROM (
    SELECT holder, what FROM claim WHERE holder IS NOT NULL
    UNION ALL SELECT lease_holder, 'the lease' FROM run WHERE lease_holder IS NOT NULL) h
WHERE (SELECT count(*) FROM batch WHERE state = 'filed') >= %(filed)s ORDER BY what <> 'batch', what <> 'share'
"""


def _is_there(home: Home) -> bool:
    with _connected(home) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'migration'").fetchone()
    return found is not None and found[0] > 0


def _connected(home: Home) -> psycopg.Connection:
    assert home.ledger
    return psycopg.connect(home.ledger.replace("postgresql+psycopg", "postgresql"), autocommit=True)


def _end(home: Home, wall_seconds: float, cpu_seconds: float, killed: tuple[str, ...]) -> End:
    table = ds.dataset(sorted(map(str, (home.folder / "results").glob("*.parquet")))).to_table()
    columns = sorted(table.column_names, key=lambda name: (name != "row_key", name))
    answers = sorted(zip(*(table[name].to_pylist() for name in columns), strict=True))
    with _connected(home) as connection:
        states = dict(connection.execute("SELECT state, count(*) FROM row GROUP BY state").fetchall())
        batches, spent = connection.execute(
            "SELECT count(*) FILTER (WHERE state = 'filed'), sum(cost_micro) FROM batch"
        ).fetchone() or (0, 0)
    return End(answers, states, batches, bill_of(home)["cost_micro"], int(spent), wall_seconds, cpu_seconds, killed)


def _say(name: str, end: End, first: End, rows: int) -> None:
    if end is first:
        print(f"{rows:,} rows, {BATCHES} batches, {os.cpu_count()} cores shared with PostgreSQL and the emulator")
        print(f"{'':<22}{'wall s':>8}{'CPU s':>8}{'speed-up':>10}   killed while they had in hand")
    print(
        f"{name:<22}{end.wall_seconds:>8.1f}{end.cpu_seconds:>8.1f}{first.wall_seconds / end.wall_seconds:>9.2f}×"
        f"   {', '.join(end.killed)}",
        flush=True,
    )


def _check(name: str, end: End, first: End, rows: int) -> None:
    """It ended as the first one did, or this fails and says where not."""
    keys = {answer[0] for answer in end.answers}
    assert sum(end.states.values()) == rows, f"{name}: {end.states}"
    assert len(keys) == len(end.answers) == end.states["loaded"], (
        f"{name}: {len(end.answers)} in the sink, {end.states}"
    )
    assert end.billed_micro == end.spent_micro, f"{name}: billed {end.billed_micro:,}, filed {end.spent_micro:,}"
    assert (end.answers, end.states) == (first.answers, first.states), f"{name}: the rows differ"


if __name__ == "__main__":
    main()

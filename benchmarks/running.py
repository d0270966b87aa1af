"""Runs of the product, measured: one client or several, watched while they work, or killed and started again."""

import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
import psycopg
import pyarrow.dataset as ds
import yaml

from benchmarks.cases import Case
from benchmarks.client import STAGE
from benchmarks.servers import Ground
from benchmarks.sources import source

JOBS = Path(__file__).parent / "jobs"
KILL_AT = 0.9
LOOK_SECONDS, TELL_SECONDS = 0.05, 5.0
COUNTED = (
    "SELECT (SELECT coalesce(sum(read_rows), 0) FROM run),"
    " (SELECT coalesce(sum(rows), 0) FROM batch WHERE state = 'filed'),"
    " (SELECT coalesce(sum(rows), 0) FROM load WHERE done_at IS NOT NULL)"
)
BILLED = ("batches_created", "requests", "input_tokens", "output_tokens", "cost_micro")

Measured = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Home:
    """Where one run lives, and who pays for it."""

    case: Case
    name: str
    job: Path
    source: Path
    environment: dict[str, str]
    url: str | None
    """Of the ledger in PostgreSQL; without one it is a file in the folder."""

    @property
    def folder(self) -> Path:
        return Path(self.environment["ROWTIDE_HOME"])

    @property
    def account(self) -> str:
        return self.environment["ANTHROPIC_API_KEY"]


@dataclass
class Life:
    """A client's process, and the file it writes to."""

    name: str
    """Of its flow run."""
    process: subprocess.Popen[bytes]
    out: Path

    def said(self) -> list[str]:
        return self.out.read_text().splitlines()


def run(ground: Ground, case: Case, say: Say) -> Measured:
    """Take the rows from source to sink."""
    home = _home(ground, case, case.name)
    empty = _ledger_bytes(home)
    with ground.faults(case.rules):
        found = _whole(home, [_begin(home, n) for n in range(case.workers)], say)
    found["ledger_bytes"] = _ledger_bytes(home) - empty
    _check(ground, home, found)
    _clear(home)
    return found


def killed(ground: Ground, case: Case, say: Say) -> Measured:
    """The same rows twice: undisturbed, and killed where nine tenths of this one's CPU were used, and started again."""
    calm = _home(ground, case, f"{case.name}-calm")
    whole = _whole(calm, [_begin(calm, 0)], say)
    _check(ground, calm, whole)
    _clear(calm)
    home = _home(ground, case, case.name)
    first = _begin(home, 0)
    _follow(home, [first], say, until=_is_at(first, *_nine_tenths(whole)))
    assert first.process.poll() is None, "it was done before it could be killed: take more rows"
    used = _cpu_of(first) - whole["import_cpu_seconds"]
    first.process.kill()
    first.process.wait()
    death = {"killed_in": _stage_of(first), "killed_at": used / whole["cpu_seconds"]}
    found = _whole(home, [_begin(home, 1)], say)
    _check(ground, home, found)
    bills = [[ground.account(each.account)[name] for name in BILLED] for each in (calm, home)]
    assert bills[0] == bills[1], f"{', '.join(BILLED)}: undisturbed {bills[0]}, killed {bills[1]}"
    found["ledger_bytes"] = _ledger_bytes(home)
    _clear(home)
    whole_seconds = {name: whole[name] for name in ("cpu_seconds", "wall_seconds")}
    return {**found, **death, "whole": whole_seconds}


def _nine_tenths(whole: Measured) -> tuple[str, float]:
    """In which stage nine tenths of a run's CPU were used, and how many seconds of it into that stage.

    Not simply how many seconds into the run: no host is as fast twice.
    """
    in_stages = {name: seconds for name, seconds in whole["stages"].items() if name != "between"}
    left = KILL_AT * sum(in_stages.values())
    for stage, seconds in in_stages.items():
        if left < seconds:
            return stage, left
        left -= seconds
    raise AssertionError("nine tenths are less than all")


def _is_at(life: Life, stage: str, seconds: float) -> Callable[[], bool]:
    """Whether it has used so many seconds of CPU since this stage of its began."""
    began: list[float] = []

    def is_at() -> bool:
        if not began and _stage_of(life) == stage:
            began.append(_cpu_of(life))
        return bool(began) and _cpu_of(life) - began[0] >= seconds

    return is_at


def _home(ground: Ground, case: Case, name: str) -> Home:
    folder = ground.place / name
    jobs = Path(shutil.copytree(JOBS, folder / "jobs", ignore=shutil.ignore_patterns("__pycache__")))
    file = jobs / case.job / "job.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **case.changes}))
    environment = {**ground.environment, "ROWTIDE_HOME": str(folder / "home"), "ANTHROPIC_API_KEY": f"key-{name}"}
    environment.pop("ROWTIDE_LEDGER", None)
    url = ground.database(name) if case.engine == "postgres" else None
    environment |= {"ROWTIDE_LEDGER": url} if url else {}
    return Home(case, name, file.parent, source(ground.place, case.source, case.rows), environment, url)


def _begin(home: Home, worker: int) -> Life:
    out = home.folder.parent / f"worker-{worker}.txt"
    name = f"{home.name}-{worker}"
    words = [str(home.job), str(home.source), home.name, name]
    with out.open("wb") as file:
        command = [sys.executable, "-m", "benchmarks.client", *words]
        return Life(name, subprocess.Popen(command, env=home.environment, stdout=file), out)


def _whole(home: Home, lives: Sequence[Life], say: Say) -> Measured:
    """What the clients used together, once all are done."""
    _follow(home, lives, say)
    each = [orjson.loads(life.said()[-1]) for life in lives]
    found = max(each, key=lambda one: one["wall_seconds"])
    added = ("cpu_seconds", "mcp_seconds", "import_cpu_seconds", "task_runs")
    summed = {name: sum(one[name] for one in each) for name in added}
    stages = sum((Counter(one["stages"]) for one in each), Counter[str]())
    peak = max(one["peak_mb"] for one in each)
    kept = ("rows", "loaded", "quarantined", "batches", "turns", "tool_calls", "tools_remembered", "cost_usd")
    figures = {name: found[name] for name in kept}
    return {
        **figures,
        **summed,
        "wall_seconds": found["wall_seconds"],
        "peak_mb": peak,
        "stages": dict(stages),
        "flow_runs": [life.name for life in lives],
    }


def _follow(home: Home, lives: Sequence[Life], say: Say, until: Callable[[], bool] = lambda: False) -> None:
    """Wait until all have ended, or it is time; tell meanwhile how far they are."""
    began, told = time.monotonic(), 0.0
    try:
        while any(life.process.poll() is None for life in lives) and not until():
            time.sleep(LOOK_SECONDS)
            if (seconds := time.monotonic() - began) - told > TELL_SECONDS:
                told = seconds
                say(f"{home.name}: {_stage_of(lives[0])}, {_progress(home)}, {seconds:.0f} s")
    except BaseException:
        for life in lives:
            life.process.kill()
        raise
    codes = [life.process.poll() for life in lives]
    if any(codes):
        for life in lives:
            life.process.kill()
        raise AssertionError(f"a client ended with {codes}")


def _stage_of(life: Life) -> str:
    stages = [line.removeprefix(STAGE) for line in life.said() if line.startswith(STAGE)]
    return stages[-1] if stages else "starting"


def _cpu_of(life: Life) -> float:
    try:
        used = psutil.Process(life.process.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return used.user + used.system


def _progress(home: Home) -> str:
    try:
        read, filed, loaded = _asked(home, COUNTED)
    except (sqlite3.Error, psycopg.Error):  # there is no ledger yet
        return "no rows yet"
    return f"{read:,} of {home.case.rows:,} rows read, {filed:,} replies filed, {loaded:,} loaded"


def _ledger_bytes(home: Home) -> int:
    if home.url:
        return int(_asked(home, "SELECT pg_database_size(current_database())")[0])
    return sum(file.stat().st_size for file in home.folder.glob("ledger.db*"))


def _asked(home: Home, query: str) -> tuple[Any, ...]:
    if home.url:
        with psycopg.connect(home.url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
            return connection.execute(query).fetchone() or ()
    with closing(sqlite3.connect(f"file:{home.folder / 'ledger.db'}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchone()


def _check(ground: Ground, home: Home, found: Measured) -> None:
    """Every row is somewhere, none stands in the sink twice, and what was billed was filed."""
    case = home.case
    assert found["rows"] == case.rows == found["loaded"] + found["quarantined"], found
    assert found["quarantined"] <= case.may_quarantine * case.rows, f"{found['quarantined']:,} rows were quarantined"
    assert case.batches in (None, found["batches"]), f"{found['batches']} batches instead of {case.batches}"
    keys = ds.dataset([str(file) for file in (home.folder / "results").rglob("*.parquet")]).to_table(["row_key"])
    assert len(keys["row_key"].unique()) == keys.num_rows == found["loaded"], f"{keys.num_rows:,} rows in the sink"
    billed = ground.account(home.account)
    (filed,) = _asked(home, "SELECT coalesce(sum(cost_micro), 0) FROM batch")
    assert billed["cost_micro"] == filed, f"billed {billed['cost_micro']:,} micro-dollars, filed {filed:,}"
    assert billed["batches_created"] == found["batches"], f"{billed['batches_created']} batches at the API"


def _clear(home: Home) -> None:
    """A million rows are gigabytes: nothing is kept but the figures."""
    shutil.rmtree(home.folder.parent)

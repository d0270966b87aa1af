"""A life: one process that works on a run until it is done, dies as planned, or is killed.

Lives are forked from a process that has imported everything, so that one takes half a second. Each run has a home and
an account of its own: a shared one would share its prompt cache, and the bills would differ.
"""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import httpx2
from tqdm import tqdm

from chaos.effects import Death, Effects
from flows.pump import pump
from rowtide import gc_tuning
from rowtide.errors import RunStopped, StoppedByWorld
from rowtide.gates.page_judging import PageJudge
from rowtide.job.job_folder import load_job
from rowtide.stages.orchestrator import RETRY_AFTER_SECONDS, Orchestrator, orchestrated_by
from rowtide.stages.run_context import load_gate

SMALL = Path(__file__).parent / "jobs" / "small"
RUN = "run-1"
CONFIRM_WITHIN_SECONDS = "1"
LONGEST_LIFE_SECONDS = 60
AT_THE_BUDGET, STOPPED_BY_WORLD, HALTED = 4, 3, 5  # how a life ends that stopped on purpose

Command = Callable[[], int]  # of a person's about a run, as the command line calls it; returns its exit status
Stage = tuple[str, int]  # its name, and that it begins for the n-th time


R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Home:
    """Where a run lives, who pays for it and to whom."""

    folder: Path
    api_url: str
    job: Path = SMALL
    budget: float | None = None
    lane: str = "batch"
    ledger: str | None = None  # its URL; by default a SQLite file in the folder

    @property
    def account(self) -> str:
        return f"key-{self.folder}"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def last_words(self) -> str:
        """The last line that was said, most often an error."""
        said = self.log.read_text(errors="replace").strip() if self.log.is_file() else ""
        return said.rpartition("\n")[2][:300]

    def labels(self) -> list[str]:
        """The effects of the last life that was let finish."""
        return json.loads((self.folder / "effects.json").read_text())


class _Halted(Exception):
    """The stage that this life was to stop before begins."""


class _Watched(Orchestrator):
    """Notes which stage an effect is of, and tries a stage again at once."""

    def __init__(self, effects: Effects, until: Stage | None) -> None:
        super().__init__(pauses=[0] * len(RETRY_AFTER_SECONDS))
        self._effects, self._until, self._begun = effects, until, Counter[str]()

    async def call(self, stage: Callable[..., Awaitable[R]], *args: Any, **parameters: Any) -> R:
        self._effects.stage = name = getattr(stage, "__name__", "")
        self._begun[name] += 1
        if (name, self._begun[name]) == self._until:
            raise _Halted
        return await super().call(stage, *args, **parameters)


def warm_up() -> None:
    """Do once what every life would do again: import what is imported late (GX: six seconds), read certificates."""
    if gate := load_gate(load_job(SMALL)):
        PageJudge(gate, gate.of("rows")).judge([(1, {"desk": "north desk", "topic": "billing"})])
    for name in ("anyio._backends._asyncio", "httpcore2", "pyarrow.pandas_compat"):
        import_module(name)
    # GX counts with tqdm, whose lock forked processes share: a life killed while it held it would stop all later ones.
    tqdm.set_lock(threading.RLock())
    ssl.create_default_context = cache(ssl.create_default_context)
    httpx2.AsyncClient()
    gc_tuning.freeze_imported_objects()


@contextmanager
def emulator(folder: Path, batch_seconds: str, faults: Path | None = None) -> Generator[str]:
    """The API, in a process of its own. Gives its URL."""
    command = [sys.executable, "-m", "emulator", "--port", "0", "--until-stdin-closes"]
    options = ["--batch-seconds", batch_seconds, "--data", str(folder), *(["--faults", str(faults)] if faults else [])]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *options], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.stdin.close()
            process.terminate()


def live(home: Home, death: Death | None = None, *, until: Stage | None = None, command: Command | None = None) -> int:
    """Start a life and see it end. Returns its exit status, negative for a signal."""
    return end_of(begin(home, death, until=until, command=command))


def begin(home: Home, death: Death | None = None, *, until: Stage | None = None, command: Command | None = None) -> int:
    """Start a life: it works on the run, `until` a stage begins, or does what a person asks. Its process id."""
    home.folder.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if not pid:
        _live(home, death, until, command)
    return pid


def end_of(pid: int, *, seconds: float = LONGEST_LIFE_SECONDS) -> int:
    """Wait for a life to end; a too long one is ended. Returns its exit status, negative for a signal."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (status := ended(pid)) is not None:
            return status
        time.sleep(0.002)
    return kill(pid)


def ended(pid: int) -> int | None:
    """The exit status of a life that has ended, or None."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def kill(pid: int) -> int:
    """SIGKILL. Returns the exit status."""
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _live(home: Home, death: Death | None, until: Stage | None, command: Command | None) -> NoReturn:
    """Never returns: what the parent had in hand is not this process's to finish."""
    status = 1
    try:
        said = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.environ |= {
            "ROWTIDE_HOME": str(home.folder),
            "ROWTIDE_CONFIRM_WITHIN_SECONDS": CONFIRM_WITHIN_SECONDS,
            "ROWTIDE_PAGE": "0",
            "ANTHROPIC_API_KEY": home.account,
            "ANTHROPIC_BASE_URL": home.api_url,
        }
        os.environ.pop("ROWTIDE_LEDGER", None)
        os.environ |= {"ROWTIDE_LEDGER": home.ledger} if home.ledger else {}
        effects = Effects(home.folder, death)
        effects.install()

        status = _context(home, effects, until) if command is None else command()
        labels = list(effects.labels)
        (home.folder / "effects.json").write_text(json.dumps(labels))
    except _Halted:
        status = HALTED
    except RunStopped:
        status = AT_THE_BUDGET
    except StoppedByWorld:
        status = STOPPED_BY_WORLD
    except BaseException:  # noqa: BLE001 # the log is where a life's end is read
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _context(home: Home, effects: Effects, until: Stage | None) -> int:
    with orchestrated_by(_Watched(effects, until)):
        asyncio.run(pump(str(home.job), None, RUN, None, home.lane, home.budget))
    return 0

"""Rowtide from the outside: the command in a process of its own, as a stranger runs it. A traceback is a failure."""

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from warm_process import WarmProcess

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON object that ends stdout (`--json`)."""
        return orjson.loads(self.out.splitlines()[-1])


@cache
def warm_process() -> WarmProcess:
    """The process of this session from which commands are forked."""
    process = WarmProcess()
    atexit.register(process.close)
    return process


def rowtide(
    *words: str | Path,
    environment: Mapping[str, str | None] | None = None,
    folder: Path = ROOT,
    stdin: str = "",
    within_seconds: float = 240,
) -> Done:
    """Run `rowtide WORDS` in `folder`. `environment` is laid over ours; None takes a variable away.

    Without `--prefect` or PREFECT_API_URL it runs without Prefect, also where somebody has a server on this machine.
    """
    given = {**os.environ, "PYTHONPATH": str(ROOT), "ROWTIDE_PREFECT_PORT": "0", **(environment or {})}
    env = {name: value for name, value in given.items() if value is not None}
    how: Any = {"env": env, "cwd": folder, "input": stdin, "timeout": within_seconds}
    if warm_process().is_like(env):
        done = warm_process().run("cli", [*map(str, words)], **how)
    else:
        command = [sys.executable, "-m", "cli", *map(str, words)]
        done = subprocess.run(command, **how, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)

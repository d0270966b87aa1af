"""Rowtide from the outside: the command in a process of its own, as a stranger runs it. A traceback is a failure."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

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
    done = subprocess.run(
        [sys.executable, "-m", "cli", *map(str, words)],
        env={name: value for name, value in given.items() if value is not None},
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=within_seconds,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)

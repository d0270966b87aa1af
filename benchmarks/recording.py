"""benchmarks.json: every case's figures as soon as it is done, and on which machine and commit."""

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.findings import Finding

LOOPS = 5

Measured = dict[str, Any]


class Record:
    """The file. What it held stays, until a case is measured again."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: dict[str, Any] = orjson.loads(file.read_bytes()) if file.exists() else {}
        self.commit = _commit()

    def of_this_commit(self) -> dict[str, Measured]:
        """The cases that were measured before, without failing, on the commit that is checked out."""
        cases = self._held.get("cases", {})
        return {name: each for name, each in cases.items() if each["commit"] == self.commit and "failed" not in each}

    def add(self, name: str, found: Measured) -> Measured:
        """Keep a case's figures, at once."""
        found = {**found, "at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": self.commit}
        self._held.setdefault("cases", {})[name] = found
        self._save()
        return found

    def conclude(self, findings: Sequence[Finding]) -> None:
        """Keep what the figures say."""
        self._held["findings"] = {each.name: each.value for each in findings}
        self._save()

    def _save(self) -> None:
        self._held["machine"] = machine()
        aside = self._file.with_suffix(".part")
        aside.write_bytes(orjson.dumps(self._held, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        aside.replace(self._file)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "loop_ms": round(_loop_ms()),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def in_words(found: dict[str, Any], commit: str) -> str:
    python = f"Python {found['python']} (a million turns of a loop: {found['loop_ms']} ms)"
    return (
        f"{found['cores']} cores ({found['processor']}), {found['memory_gb']} GB, {found['system']}, {python}, "
        f"commit {commit}, {found['date']}; load {found['load_before']}"
    )


def _loop_ms() -> float:
    """How quick this interpreter is on this machine just now: builds of one version differ, and so do hours."""
    took: list[float] = []
    for _ in range(LOOPS):
        began = time.thread_time()
        for _ in range(1_000_000):
            pass
        took.append(time.thread_time() - began)
    return min(took) * 1000


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

"""What is measured besides the product: the floor, the SDK's loop, and peers in venvs of their own."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.cases import Case
from benchmarks.peers.installing import interpreter
from benchmarks.running import JOBS, Measured, Say
from benchmarks.servers import ROOT, Ground
from benchmarks.sources import source
from rowtide.tiers.catalogue import load_catalogue

SECONDS = 1_800  # no program here takes half as long
SCRIPTS = Path(__file__).parent / "peers"


def floor(ground: Ground, case: Case, say: Say) -> Measured:
    """The least a program can do: benchmarks/floor.py."""
    return _loop(ground, case, "benchmarks.floor", say)


def sdk_loop(ground: Ground, case: Case, say: Say) -> Measured:
    """What the vendor's documents show: benchmarks/sdk_loop.py."""
    return _loop(ground, case, "benchmarks.sdk_loop", say)


def peer(ground: Ground, case: Case, say: Say) -> Measured:
    """The same rows by somebody else's package. Raises AssertionError with its last words where it cannot."""
    name, work = case.job, case.family.removeprefix(f"{case.job}-")
    python = interpreter(name, say)
    say(f"{case.name}: at work")
    home = ground.place / case.name
    home.mkdir()
    script = str(SCRIPTS / f"{name.replace('-', '_')}_peer.py")
    tier = "opus" if work == "one-trip" else "haiku"
    words = [work, load_catalogue().tier(tier).id, str(source(ground.place, case.source, case.rows)), str(home)]
    environment = {**ground.environment, "ANTHROPIC_API_KEY": f"key-{case.name}"}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(home)}
    found = _json_of([script, *words], environment, python=str(python))
    billed = ground.account(f"key-{case.name}")
    assert found["rows"] >= 0.98 * case.rows, f"{found['rows']:,} of {case.rows:,} rows came back"
    return {**found, "rows": case.rows, "answered": found["rows"], "batches": billed["batches_created"],
            "turns": billed["requests"]}  # fmt: skip


def _loop(ground: Ground, case: Case, module: str, say: Say) -> Measured:
    say(f"{case.name}: at work")
    out = ground.place / f"{case.name}.parquet"
    rows = str(source(ground.place, case.source, case.rows))
    url, model = ground.environment["ANTHROPIC_BASE_URL"], load_catalogue().tier("haiku").id
    return _json_of(["-m", module, url, str(JOBS / case.job), rows, str(out), model], ground.environment)


def _json_of(words: Sequence[str], environment: dict[str, str], *, python: str = sys.executable) -> dict[str, Any]:
    """Run a program that prints its figures as JSON, last."""
    began, pipe = time.perf_counter(), subprocess.PIPE
    done = subprocess.run([python, *words], env=environment, stdout=pipe, stderr=pipe, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:300] or "it failed"
    return {"wall_seconds": time.perf_counter() - began, **orjson.loads(done.stdout.splitlines()[-1])}

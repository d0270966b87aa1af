"""After a hard stop everything goes on by itself, and nothing is left running."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import make_job, wait_until
from outside import ROOT

from chaos.service import kill_service

pytestmark = pytest.mark.slow


def test_all_parts_are_killed_at_once_and_everything_goes_on_by_itself(tmp_path: Path) -> None:
    """Server, worker, receiver and flows, then their guardians too, while messages come in: a short `chaos.service`."""
    came = kill_service(tmp_path / "service", 3, watch_seconds=20, between=(5, 30))
    assert came.failures == []
    assert came.rows > 20
    assert came.runs > 0


def test_a_run_that_is_killed_takes_its_own_prefect_server_and_its_emulator_along(tmp_path: Path) -> None:
    home = tmp_path / "home"
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "ANTHROPIC"))}
    own = {"ROWTIDE_HOME": str(home), "PREFECT_HOME": str(home / "prefect"), "ROWTIDE_PREFECT_PORT": "0"}
    command = [sys.executable, "-m", "cli", "run", str(make_job(tmp_path / "job", rows=2000)), "--prefect"]
    run = subprocess.Popen(
        command, cwd=ROOT, env={**known, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def started() -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for each in psutil.process_iter():
            with suppress(psutil.Error):
                if each.status() != psutil.STATUS_ZOMBIE and each.environ().get("ROWTIDE_HOME", "").startswith(
                    str(home)
                ):
                    found.append(each)
        return found

    def serves() -> bool:
        return any("create_app" in " ".join(each.cmdline()) for each in started())

    wait_until(lambda: run.poll() is not None or (list(home.rglob("ledger.db")) and serves()))
    assert run.poll() is None
    run.kill()
    run.wait()
    with suppress(AssertionError):
        wait_until(lambda: not started(), within_seconds=120)
    assert [each.cmdline() for each in started()] == []

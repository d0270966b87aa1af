"""Ctrl-C and SIGTERM: the exit status of the table, one sentence that says how to go on, nothing left, nothing lost."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import answers_of, ask_ledger, make_job, run, wait_until
from outside import ROOT
from prefect.client.orchestration import get_client

from cli.exits import Exit
from emulator.faults import Call
from emulator.world import workspace_of

MARK = "ROWTIDE_TEST_OF_STOPS"
STATUS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}
WAYS = [
    (signal.SIGINT, "--no-prefect"),
    (signal.SIGTERM, "--no-prefect"),
    (signal.SIGINT, "--prefect"),
    (signal.SIGTERM, "PREFECT_API_URL"),
]


def started_with(mark: str) -> list[str]:
    found: list[str] = []
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if each.environ().get(MARK) == mark and each.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(each.cmdline()))
    return found


@contextmanager
def first_batch(api: Any) -> Generator[threading.Event]:
    """Is set when this test's account has made a batch, before the API says so."""
    workspace, made = workspace_of(os.environ["ANTHROPIC_API_KEY"]), threading.Event()

    def on_call(call: Call) -> None:
        if (call.name, call.workspace, call.moment) == ("POST /v1/messages/batches", workspace, "after"):
            made.set()

    api.world.faults.on_call = on_call
    yield made


async def states(run_id: str) -> list[str]:
    async with get_client() as client:
        found = await client.read_flow_runs()
        return [each.state_name or "" for each in found if each.parameters.get("run_id") == run_id]


@pytest.mark.parametrize(("number", "way"), WAYS)
def test_a_run_that_is_told_to_stop_says_how_to_go_on_and_leaves_nothing_behind(
    number: signal.Signals, way: str, api: Any, prefect_server: str, tmp_path: Path
) -> None:
    job, mark = make_job(tmp_path / "job", rows=6), str(tmp_path)
    environment = {**os.environ, MARK: mark, "PYTHONPATH": str(ROOT)}
    environment.pop("PREFECT_API_URL", None)
    is_configured = way == "PREFECT_API_URL"
    environment |= {"PREFECT_API_URL": prefect_server} if is_configured else {}
    command = [sys.executable, "-m", "cli", "run", str(job), *([] if is_configured else [way])]
    pipe = subprocess.PIPE
    with (
        first_batch(api) as made,
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=pipe, text=True, start_new_session=True) as process,
    ):
        assert made.wait(200)
        os.killpg(process.pid, number)  # as a terminal does, or a service manager
        said = process.communicate(timeout=100)[1]
    ((run_id,),) = ask_ledger(tmp_path / "home", "SELECT run_id FROM run")
    assert process.returncode == STATUS[number], said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == f"rowtide: stopped; what was committed is kept: rowtide resume {run_id}"
    wait_until(lambda: not started_with(mark), within_seconds=60)
    if is_configured:
        assert asyncio.run(states(run_id)) == ["Crashed"]  # and nobody waits for it there
    assert run(job, run_id=run_id)["loaded"] == 6
    assert len(answers_of(tmp_path / "home")) == 6
    assert api.world.bill_of(os.environ["ANTHROPIC_API_KEY"])["requests"] == 6

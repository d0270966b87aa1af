"""Prefect's own ways to go on with a run that failed."""

import asyncio
import os
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from conftest import make_job, wait_until
from prefect.client.orchestration import get_client
from prefect.input.run_input import keyset_from_paused_state
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry
from test_agents import calls, desk_job

from flows.run_job import run_job
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.ledger import Ledger, ledger_url

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_retry_of_a_flow_run_goes_on_with_the_same_run(api: Any, faults: Any, tmp_path: Path) -> None:
    """What a worker does when somebody presses Retry: the same flow run, in another process, after its state is set."""
    faults({"rows": {"share": 0.5}, "result": {"errored": "credit"}})
    job = make_job(tmp_path / "job", rows=40, tiers=["opus"])
    first, second = asyncio.run(fail_then_retry(job, edit=api.world.faults.clear))
    assert (first, second) == ("Failed", "Completed")
    ledger = Ledger(ledger_url(None, tmp_path / "home"))
    with ledger.view() as tx:
        (run,) = ledgers.all_runs(tx, limit=10)
        loaded = tx.exec_driver_sql("SELECT count(*) FROM row WHERE state = 'loaded'").scalar()
        cost = tx.exec_driver_sql("SELECT sum(cost_micro) FROM row").scalar()
    ledger.close()
    assert (loaded, run.finished_at is not None) == (40, True)
    assert cost == api.world.bill_of(os.environ["ANTHROPIC_API_KEY"])["cost_micro"]


async def fail_then_retry(job: Path, edit: Any) -> tuple[str, str]:
    deployment = await run_job.ato_deployment(name="retry-test")  # pyright: ignore[reportGeneralTypeIssues] # a coroutine
    deployment_id: UUID = await deployment.aapply()
    async with get_client() as client:
        made = await client.create_flow_run_from_deployment(deployment_id, parameters={"job": str(job)})
        first = await execute(client, made.id)
        edit()
        await client.set_flow_run_state(made.id, AwaitingRetry(), force=True)
        second = await execute(client, made.id)
        named = await client.read_flow_run(made.id)
    run_id = next(tag for tag in named.tags if tag.startswith("run:")).removeprefix("run:")
    assert named.name == f"{run_id}: 40 of 40 rows are loaded."
    assert {"rowtide", "job:job"} <= set(named.tags)
    return first, second


@pytest.mark.parametrize(("decision", "opened"), [("allow", 9), ("deny", 0)])
def test_a_form_on_the_flow_runs_page_allows_or_denies_the_calls_it_shows(
    api: Any, tmp_path: Path, decision: str, opened: int
) -> None:
    """With a deployment the run suspends, and its worker is free; who answers the form lets it go on."""
    job = desk_job(tmp_path / "job", ask=["open_ticket"])
    states, form = asyncio.run(suspend_and_answer(job, {"decision": decision, "why": "as I please", "who": "Ada"}))
    assert states == ["Suspended", "Completed"]
    assert "desk.open_ticket(" in form
    assert (calls(tmp_path / "job")["open_ticket"], loaded(tmp_path / "home")) == (opened, 9)


async def suspend_and_answer(job: Path, answer: dict[str, str]) -> tuple[list[str], str]:
    form = ""

    async def say(shown: str) -> dict[str, str]:
        nonlocal form
        form = shown
        return answer

    return await answer_forms(job, say), form


async def answer_forms(job: Path, say: Callable[[str], Awaitable[dict[str, str]]]) -> list[str]:
    """Run a job by a deployment; `say` is shown each form it suspends with, and answers it. Returns its states."""
    deployment = await run_job.ato_deployment(name="form-test")  # pyright: ignore[reportGeneralTypeIssues] # a coroutine
    deployment_id: UUID = await deployment.aapply()
    async with get_client() as client:
        made = await client.create_flow_run_from_deployment(deployment_id, parameters={"job": str(job)})
        states = [await execute(client, made.id)]
        while states[-1] == "Suspended":
            keyset = keyset_from_paused_state((await client.read_flow_run(made.id)).state)
            form = await client.read_flow_run_input(flow_run_id=made.id, key=keyset["description"])
            await client.resume_flow_run(made.id, run_input=await say(str(form)))
            states.append(await execute(client, made.id))
    return states


def loaded(home: Path) -> int:
    ledger = Ledger(ledger_url(None, home))
    with ledger.view() as tx:
        count = tx.exec_driver_sql("SELECT count(*) FROM row WHERE state = 'loaded'").scalar()
    ledger.close()
    return int(count or 0)


async def execute(client: Any, flow_run_id: UUID) -> str:
    """Run a flow run in a process of its own, as a worker does. Returns the name of the state it ended in."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    environment = {**os.environ, **settings, "PREFECT__FLOW_RUN_ID": str(flow_run_id)}
    command = [sys.executable, "-m", "prefect.engine"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=DEVNULL, stderr=DEVNULL)
    await process.wait()
    return (await client.read_flow_run(flow_run_id)).state.name


def test_an_api_that_dies_after_taking_a_batch_and_comes_back_is_asked_first(
    prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plan = tmp_path / "plan.yaml"
    plan.write_text("[{call: create, nth: 1, do: {hang_seconds: 60, moment: after}}]")
    for name, value in {"HOME": str(tmp_path / "home"), "CONFIRM_WITHIN_SECONDS": "1"}.items():
        monkeypatch.setenv(f"ROWTIDE_{name}", value)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{port}")
    job = make_job(tmp_path / "job", rows=50, tiers=["opus"])

    async def pump_while_the_api_dies() -> dict[str, Any]:
        with emulator(port, tmp_path / "api", "--faults", str(plan)) as api:
            pump = asyncio.create_task(run_job(str(job)))
            await asyncio.to_thread(wait_for_a_batch, tmp_path / "api")
            api.kill()
        with emulator(port, tmp_path / "api"):
            return await pump

    found = asyncio.run(pump_while_the_api_dies())
    assert (found["loaded"], found["batches"]) == (50, 1)
    assert len(list((tmp_path / "api").rglob("msgbatch_*.json"))) == 1


@contextmanager
def emulator(port: int, data: Path, *options: str) -> Generator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "emulator", "--port", str(port), "--data", str(data), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def wait_for_a_batch(data: Path) -> None:
    wait_until(lambda: list(data.rglob("msgbatch_*.json")))

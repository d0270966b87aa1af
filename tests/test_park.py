"""Runs that no process works on: parked and woken, dead and started again, canceled and gone on with."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import ask_ledger, make_job, make_run, wait_until
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry, Cancelling, Crashed, Pending, Running

from deploy.worker import died_with, tell_of_dead
from emulator.clock import Clock
from emulator.server import Emulator, start
from flows.resume_runs import resume_runs
from flows.run_job import run_job
from rowtide.ledger import flow_runs as ledger_flow_runs
from rowtide.ledger.ledger import Ledger
from rowtide.observing.recovery import (
    RESTARTS,
    RESTARTS_WITH_WORKER,
    RESTARTS_WITHIN,
    WORKER_CRASHED,
    Cancel,
    Reconcile,
    Restart,
    UnfinishedRunStatus,
    Wake,
    Warn,
    recovery_steps,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SILENCE = timedelta(minutes=10)
HOUR = timedelta(hours=1)


def standing(**values: Any) -> UnfinishedRunStatus:
    """A parked run with one batch at the API, unless told otherwise."""
    usual = UnfinishedRunStatus(
        run_id="run-1",
        flow_run_id="f",
        flow_state="PAUSED",
        flow_state_id="s",
        can_start=True,
        is_parked=True,
        lease="free",
        silent_for=timedelta(),
        opened={"b1": NOW - HOUR},
        unconfirmed=0,
        is_canceled=False,
        to_cancel=1,
        restarts=0,
        restarts_with_worker=0,
        crashed_with_worker=False,
    )
    return replace(usual, **values)


RUNNING = {"flow_state": "RUNNING", "is_parked": False}
JUST_CRASHED = {"flow_state": "CRASHED", "is_parked": False}
CRASHED = {**JUST_CRASHED, "silent_for": timedelta(minutes=2)}
DEAD = {"lease": "dead"}


@pytest.mark.parametrize(
    ("at", "unended", "expected"),
    [
        (standing(), {"b1"}, []),
        (standing(), set(), [Wake]),
        (standing(opened={"b1": NOW, "b2": NOW}), {"b1"}, [Wake]),
        (standing(opened={}), set(), [Wake]),
        (standing(opened={}, unconfirmed=1), set(), [Reconcile]),
        (standing(is_parked=False), set(), []),  # a person suspended it, or it waits for leave
        (standing(lease="held"), set(), []),
        (standing(is_canceled=True), set(), [Cancel]),
        (standing(**RUNNING), set(), []),
        (standing(**RUNNING, **DEAD), {"b1"}, [Restart]),
        (standing(**RUNNING, lease="expired"), {"b1"}, []),
        (standing(**RUNNING, lease="expired", silent_for=HOUR), {"b1"}, [Restart]),
        (standing(**RUNNING, silent_for=HOUR), {"b1"}, [Restart]),
        (standing(**RUNNING, lease="held", silent_for=HOUR), {"b1"}, []),
        (standing(**CRASHED), {"b1"}, [Restart]),
        (standing(**JUST_CRASHED, silent_for=timedelta(seconds=10)), {"b1"}, []),  # its worker will say so again
        (standing(**CRASHED, can_start=False), {"b1"}, []),
        (standing(**CRASHED, is_canceled=True), {"b1"}, []),
        (standing(**CRASHED, restarts=RESTARTS - 1), {"b1"}, [Restart]),
        (standing(**CRASHED, restarts=RESTARTS), {"b1"}, [Warn]),
        (standing(**JUST_CRASHED, crashed_with_worker=True), {"b1"}, [Restart]),  # nobody is left to say so again
        (standing(**CRASHED, restarts=RESTARTS, crashed_with_worker=True), {"b1"}, [Restart]),  # perhaps not its fault
        (
            standing(**CRASHED, restarts_with_worker=RESTARTS_WITH_WORKER - 1, crashed_with_worker=True),
            {"b1"},
            [Restart],
        ),
        (standing(**CRASHED, restarts_with_worker=RESTARTS_WITH_WORKER, crashed_with_worker=True), {"b1"}, [Warn]),
        (standing(**CRASHED, restarts_with_worker=RESTARTS_WITH_WORKER), {"b1"}, [Restart]),  # this time it died alone
        (standing(flow_state="PENDING"), {"b1"}, []),
        (standing(flow_state="PENDING", silent_for=timedelta(minutes=4)), {"b1"}, [Restart]),
        (standing(**CRASHED, run_id="", opened={}), set(), [Restart]),  # it died before it began a run
        (standing(flow_state="CANCELLED"), {"b1"}, [Cancel]),
        (standing(flow_state="CANCELLED", to_cancel=0), {"b1"}, []),
        (standing(flow_state="CANCELLED", to_cancel=0, unconfirmed=1), {"b1"}, [Reconcile]),
        (standing(flow_state="CANCELLING"), {"b1"}, []),
        (standing(flow_state="CANCELLING", **DEAD), {"b1"}, [Cancel]),
        (standing(flow_state="FAILED"), set(), []),
        (standing(flow_state="FAILED", opened={"b1": NOW - timedelta(days=26)}), set(), [Warn]),
        (standing(opened={"b1": NOW - timedelta(days=26)}), set(), [Wake, Warn]),
    ],
)
def test_what_a_run_needs_follows_from_what_is_known_of_it(
    at: UnfinishedRunStatus, unended: set[str], expected: list[type]
) -> None:
    found = recovery_steps(at, unended=unended, silence=SILENCE, now=NOW)
    assert [type(step) for step in found] == expected


def test_a_run_that_kills_each_worker_that_takes_it_is_left_to_a_person_in_the_end(ledger: Ledger) -> None:
    run, starts = make_run(ledger), 0
    now = NOW
    with ledger.page() as tx:
        ledger_flow_runs.record_flow_run(tx, run, "f", now=now)
        while starts < 100:
            now += timedelta(minutes=1)
            (found,) = ledger_flow_runs.unfinished_runs(tx, "", RESTARTS_WITHIN, RESTARTS_WITHIN, now=now)
            at = standing(**CRASHED, crashed_with_worker=True, restarts_with_worker=found.restarts_with_worker)
            (step,) = recovery_steps(at, unended={"b1"}, silence=SILENCE, now=now)
            if isinstance(step, Warn):
                break
            starts += 1
            ledger_flow_runs.record_restart(tx, run, "f", WORKER_CRASHED, now=now)
        later = now + RESTARTS_WITHIN
        (tomorrow,) = ledger_flow_runs.unfinished_runs(tx, "", RESTARTS_WITHIN * 2, RESTARTS_WITHIN, now=later)
    assert isinstance(step, Warn)
    assert step.why == "its worker died, 26 times in a day: not started again; look whether its memory is what ended it"
    assert (starts, found.restarts, found.restarts_with_worker) == (RESTARTS_WITH_WORKER, 0, RESTARTS_WITH_WORKER)
    assert tomorrow.restarts_with_worker <= 1


@pytest.fixture
def slow(prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Emulator]:
    """An API of this test's own, whose batches take an hour of a clock that the test can set."""
    with start(tmp_path / "api", clock=Clock(), batch_seconds=(3600, 3600)) as server:
        monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ROWTIDE_CONFIRM_WITHIN_SECONDS", "0.5")
        monkeypatch.setenv("ROWTIDE_PAGE", "0")
        yield server


async def begin(client: PrefectClient, job: Path) -> tuple[UUID, Process]:
    """Start a flow run of a deployment in a process of its own, as a worker does."""
    deployment = await run_job.ato_deployment(name="park-test")  # pyright: ignore[reportGeneralTypeIssues] # a coroutine
    made = await client.create_flow_run_from_deployment(await deployment.aapply(), parameters={"job": str(job)})
    return made.id, await engine(made.id)


async def engine(flow_run_id: UUID) -> Process:
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    environment = {**os.environ, **settings, "PREFECT__FLOW_RUN_ID": str(flow_run_id)}
    command = [sys.executable, "-m", "prefect.engine"]
    return await asyncio.create_subprocess_exec(*command, env=environment, stdout=DEVNULL, stderr=DEVNULL)


async def state_of(client: PrefectClient, flow_run_id: UUID) -> str:
    state = (await client.read_flow_run(flow_run_id)).state
    return state.name if state else ""


def api_batches(tmp_path: Path) -> int:
    return len(list((tmp_path / "api").rglob("msgbatch_*.json")))


def loaded(tmp_path: Path) -> int:
    return ask_ledger(tmp_path / "home", "SELECT count(*) FROM row WHERE state = 'loaded'")[0][0]


async def test_a_run_parks_with_twenty_batches_open_holds_no_process_and_is_woken_after_their_end(
    slow: Emulator, tmp_path: Path
) -> None:
    job = make_job(
        tmp_path / "job", rows=40, tiers=["opus"], limits={"batch_rows": 2, "enough_rows": 1, "patience_seconds": 0}
    )
    async with get_client() as client:
        flow_run_id, process = await begin(client, job)
        await process.wait()  # the process is gone, and nobody waits
        assert (await state_of(client, flow_run_id), api_batches(tmp_path)) == ("Suspended", 20)
        assert await resume_runs() == {}
        assert await state_of(client, flow_run_id) == "Suspended"
        slow.world.clock.advance(3601)
        assert await resume_runs() == {"woken": 1}
        assert await state_of(client, flow_run_id) == "Resuming"
        assert await resume_runs() == {}
        await (await engine(flow_run_id)).wait()
        assert (await state_of(client, flow_run_id), loaded(tmp_path)) == ("Completed", 40)
    assert api_batches(tmp_path) == 20


async def test_a_killed_process_is_noticed_and_its_run_started_again_once(slow: Emulator, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=40, tiers=["opus"])
    async with get_client() as client:
        flow_run_id, process = await begin(client, job)
        await asyncio.to_thread(wait_for_a_batch, tmp_path)
        assert await resume_runs() == {}  # it lives
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert await state_of(client, flow_run_id) == "Running"
        assert [await resume_runs(), await resume_runs()] == [{"restarted": 1}, {}]
        assert await state_of(client, flow_run_id) == "AwaitingRetry"
        await client.set_flow_run_state(flow_run_id, Crashed())  # as its worker does, whose second report comes late
        assert (await resume_runs(), await state_of(client, flow_run_id)) == ({}, "Crashed")
        await client.set_flow_run_state(flow_run_id, AwaitingRetry(), force=True)  # as Retry does
        slow.world.clock.advance(3601)
        await (await engine(flow_run_id)).wait()
        assert (await state_of(client, flow_run_id), loaded(tmp_path)) == ("Completed", 40)
    assert api_batches(tmp_path) == 1
    assert ask_ledger(tmp_path / "home", "SELECT count(*) FROM flow_run WHERE restarted IS NOT NULL") == [(1,)]


@pytest.mark.parametrize(
    ("labels", "state", "seconds", "is_dead"),
    [
        ({"prefect.worker.name": "w"}, Running(), 0, True),
        ({"prefect.worker.name": "w"}, Pending(), 0, True),
        ({"prefect.worker.name": "another"}, Pending(), 600, False),
        ({}, Pending(), 5, False),  # its worker is about to label it
        ({}, Pending(), 60, True),
        ({}, Running(), 600, False),  # a run from a terminal
    ],
)
def test_whose_a_flow_run_was_is_said_by_its_label(
    labels: dict[str, str], state: State, seconds: int, *, is_dead: bool
) -> None:
    flow_run = FlowRun(flow_id=uuid4(), deployment_id=uuid4(), labels=labels, state=state)  # pyright: ignore[reportArgumentType] # its labels are such
    assert died_with(flow_run, "w", state.timestamp + timedelta(seconds=seconds)) is is_dead


async def test_what_died_with_its_worker_before_it_began_a_run_is_told_and_started_again(
    slow: Emulator, tmp_path: Path
) -> None:
    job = make_job(tmp_path / "job", tiers=["opus"], limits={"patience_seconds": 0})
    deployment = await run_job.ato_deployment(name="died-test")  # pyright: ignore[reportGeneralTypeIssues] # a coroutine
    async with get_client() as client:
        made = await deployment.aapply()
        asked = [await client.create_flow_run_from_deployment(made, parameters={"job": str(job)}) for _ in range(3)]
        taken, running, of_another = (each.id for each in asked)
        for each, worker in ((taken, "w"), (running, "w"), (of_another, "another")):
            await client.update_flow_run_labels(each, {"prefect.worker.name": worker})
            await client.set_flow_run_state(each, Pending(), force=True)
        await client.set_flow_run_state(running, Running(), force=True)
        assert await resume_runs() == {}  # their processes may yet begin
        assert await tell_of_dead("w") == 2
        assert [await state_of(client, each.id) for each in asked] == ["Crashed", "Crashed", "Pending"]
        assert await resume_runs() == {"restarted": 2}
        assert [await state_of(client, each.id) for each in asked] == ["AwaitingRetry", "AwaitingRetry", "Pending"]
        await (await engine(taken)).wait()
        assert await state_of(client, taken) == "Suspended"
        await client.delete_flow_run(of_another)


async def test_cancel_in_the_ui_cancels_open_batches_and_retry_goes_on(slow: Emulator, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=40, tiers=["opus"], limits={"patience_seconds": 0})
    async with get_client() as client:
        flow_run_id, process = await begin(client, job)
        await process.wait()
        slow.world.clock.advance(1800)
        await client.set_flow_run_state(flow_run_id, Cancelling())  # as the button does
        assert await state_of(client, flow_run_id) == "Cancelled"
        assert [await resume_runs(), await resume_runs()] == [{"canceled": 1}, {}]
        (stopped,) = ask_ledger(tmp_path / "home", "SELECT stopped, cancel_asked_at IS NULL FROM run, batch")
        assert tuple(stopped) == ("canceled", 0)
        await client.set_flow_run_state(flow_run_id, AwaitingRetry(), force=True)  # as Retry does
        seen: list[str] = []
        while "Completed" not in seen and len(seen) < 3:
            slow.world.clock.advance(3601)
            await resume_runs()
            await (await engine(flow_run_id)).wait()
            seen.append(await state_of(client, flow_run_id))
        assert loaded(tmp_path) == 40, seen
    cost = ask_ledger(tmp_path / "home", "SELECT sum(cost_micro) FROM row")[0][0]
    assert cost == slow.world.bill_of("key")["cost_micro"]


def wait_for_a_batch(tmp_path: Path) -> None:
    """Until the ledger knows that the API has one."""
    home = tmp_path / "home"
    wait_until(lambda: (home / "ledger.db").exists())
    wait_until(lambda: ask_ledger(home, "SELECT count(*) FROM batch WHERE state = 'open'") != [(0,)])

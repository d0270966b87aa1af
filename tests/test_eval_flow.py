"""Evals under Prefect: parked, killed and gone on with; told of where they are worse."""

import asyncio
import signal
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from conftest import PROMPT, ask_ledger, make_job, wait_until
from outside import rowtide
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from test_eval_command import WIDE, asked_of, eval_job, make_golden, outcome_of
from test_park import api_batches, engine, slow, state_of
from test_required_eval import Person

from emulator.server import Emulator
from flows.evaluate import evaluate
from flows.evaluate_job import evaluate_job
from flows.resume_runs import resume_runs
from rowtide.errors import RunStopped
from rowtide.evals.outcome import EvalOutcome
from rowtide.stages.evaluate.choose_arms import Candidate
from rowtide.stages.evaluate.write_arm import Changes
from rowtide.stages.orchestrator import orchestrated_by

pytestmark = pytest.mark.usefixtures("prefect_server")
__all__ = ["slow"]  # a fixture

WORSE = "Sort the message.\n---\nmessage: {{ message }}\n"
LENIENT = {"margins": {"right": 0.2, "harm": 0.2}, "dev_share": 0}  # 60 rows can show that much
ANOTHER = {"settings": ("limits.max_tokens=4000",)}


def test_a_worse_version_is_told_of_once_and_its_verdict_stands_on_the_flow_runs_page(api: Any, tmp_path: Path) -> None:
    job, home = make_job(tmp_path / "job", rows=200, **WIDE), tmp_path / "home"
    make_golden(job, 200)
    (tmp_path / "worse.md").write_text(WORSE)
    eval_id = asyncio.run(evaluate_job(str(job), prompt=str(tmp_path / "worse.md"), who="Ada"))
    found = outcome_of(home, eval_id)
    assert (found.verdict, found.who) == ("worse", "Ada")
    assert ask_ledger(home, "SELECT subject, occurrence FROM emitted_event") == [(eval_id, "worse")]
    text = asyncio.run(artifact("eval-verdict", eval_id))
    assert "The candidate is worse" in text and "| right |" in text
    assert asyncio.run(evaluate_job(str(job), prompt=str(tmp_path / "worse.md"))) == eval_id, "it was answered"
    assert ask_ledger(home, "SELECT count(*) FROM emitted_event") == [(1,)]


async def artifact(key: str, about: str) -> str:
    """The newest artifact of this key."""
    async with get_client() as client:
        found = await client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    texts = [str(each.data) for each in sorted(found, key=lambda each: str(each.created)) if each.data]
    return texts[-1]


def test_who_is_told_of_an_evals_budget_is_told_the_command_that_goes_on(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=60, evals=LENIENT)
    make_golden(job, 60)
    person = Person("flow-1", "")
    with orchestrated_by(person), pytest.raises(RunStopped, match="`rowtide resume eval-job"):
        asyncio.run(evaluate(str(job), Candidate(changes=Changes(**ANOTHER)), budget=0.001))
    ((event, told),) = person.events
    (eval_id, run_id) = ask_ledger(home, "SELECT eval_id, run_id FROM run")[0]
    assert (event, told["budget_usd"]) == ("budget.reached", 0.001)
    assert told["command"].startswith(f"rowtide resume {eval_id} --budget "), "the eval's, and not that of its run"
    environment = {"ROWTIDE_HOME": str(home)}
    while (done := rowtide(*told["command"].split()[1:], environment=environment)).status == 4:
        told = {"command": f"rowtide resume {run_id} --budget {10 * float(told['command'].split()[-1])}"}
    assert done.status in (0, 6) and outcome_of(home, eval_id).verdict is not None


def figures(found: EvalOutcome) -> list[Any]:
    """All of an eval that does not depend on who asked it, and when."""
    looks = [(each.rows, each.finding) for each in found.looks]
    rows = [(row.key, row.candidate.score, row.incumbent.score, row.candidate.answer) for row in found.rows]
    return [found.verdict, found.reasons, found.alpha, looks, rows]


async def test_an_eval_killed_half_way_is_started_again_pays_nothing_twice_and_ends_as_an_undisturbed_one(
    slow: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path / "job", rows=130, **WIDE)
    make_golden(job, 130)
    async with get_client() as client:
        flow_run_id, process = await begin(client, {"job": str(job), "settings": ["limits.max_tokens=4000"]})
        for batch in (1, 2, 3):  # both versions' first look, and the half of the second
            await asyncio.to_thread(wait_until, lambda batch=batch: api_batches(tmp_path) == batch)
            await asyncio.to_thread(wait_until, lambda: open_batches(tmp_path) == 1)
            if batch < 3:
                slow.world.clock.advance(3601)
        asked = slow.world.calls.total()
        await asyncio.to_thread(wait_until, lambda: slow.world.calls.total() > asked)  # it waits, with the run's lease
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert [await resume_runs(), await resume_runs()] == [{"restarted": 1}, {}]
        asking = await engine(flow_run_id)
        await go_on(slow, asking)
        assert await state_of(client, flow_run_id) == "Completed"
    home = tmp_path / "home"
    (eval_id, spent), *more = ask_ledger(home, "SELECT eval_id, (SELECT sum(cost_micro) FROM batch) FROM eval")
    found = outcome_of(home, eval_id)
    assert (more, spent) == ([], slow.world.bill_of("key")["cost_micro"]), "what was billed is what was filed, once"
    assert asked_of(home) == 2 * found.looks[-1].rows
    assert await resume_runs() == {}, "an eval that is over needs nothing"
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "undisturbed"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "another")
    undisturbed = asyncio.create_task(asyncio.to_thread(eval_job, job, tmp_path / "undisturbed", changes=ANOTHER))
    await go_on(slow, undisturbed)
    assert figures(found) == figures(undisturbed.result())


async def begin(client: PrefectClient, parameters: dict[str, Any]) -> tuple[UUID, Process]:
    """Start a flow run of the eval's deployment in a process of its own, as a worker does."""
    deployment = await evaluate_job.ato_deployment(name="eval-test")  # pyright: ignore[reportGeneralTypeIssues] # a coroutine
    made = await client.create_flow_run_from_deployment(await deployment.aapply(), parameters=parameters)
    return made.id, await engine(made.id)


def open_batches(tmp_path: Path) -> int:
    return ask_ledger(tmp_path / "home", "SELECT count(*) FROM batch WHERE state = 'open'")[0][0]


async def go_on(api: Emulator, work: Process | asyncio.Task[Any]) -> None:
    """Let the API's time pass until the work is done."""
    ending = asyncio.ensure_future(work.wait() if isinstance(work, Process) else asyncio.shield(work))
    while not ending.done():
        api.world.clock.advance(3601)
        await asyncio.wait([ending], timeout=1)


async def test_an_eval_parks_while_its_batch_is_worked_on_and_is_gone_on_with_by_any_of_its_ids(
    slow: Emulator, tmp_path: Path
) -> None:
    job = make_job(tmp_path / "job", rows=60, limits={"patience_seconds": 0}, evals=LENIENT)
    make_golden(job, 60)
    home = tmp_path / "home"
    async with get_client() as client:
        flow_run_id, process = await begin(client, {"job": str(job), "settings": ["limits.max_tokens=4000"]})
        await process.wait()
        assert (await state_of(client, flow_run_id), await resume_runs()) == ("Suspended", {})
        slow.world.clock.advance(3601)
        assert await resume_runs() == {"woken": 1}
        (job / "prompt.md").write_text(PROMPT.replace("Sort", "Please sort"))  # another question; this one goes on
        await (await engine(flow_run_id)).wait()
        assert (await state_of(client, flow_run_id), api_batches(tmp_path)) == ("Suspended", 2)
        assert await resume_runs() == {}, "the incumbent's rows are in, and wake nobody"
    slow.world.clock.advance(3601)
    (run_id,) = ask_ledger(home, "SELECT run_id FROM run WHERE run_id LIKE '%candidate'")[0]
    given = {"ROWTIDE_HOME": str(home)}
    done = await asyncio.to_thread(rowtide, "resume", run_id, "--json", environment=given)
    (eval_id,) = ask_ledger(home, "SELECT eval_id FROM eval")[0]
    assert (done.summary["eval_id"], done.summary["rows"]) == (eval_id, 60)
    assert done.status == (0 if done.summary["passes"] else 6)
    assert (await asyncio.to_thread(rowtide, "resume", eval_id, environment=given)).status == done.status
    assert api_batches(tmp_path) == 2
    listed = await asyncio.to_thread(rowtide, "purge", "--job", "job", environment=given)
    (line,) = [line for line in listed.out.splitlines() if line.startswith(f"{eval_id} ")]
    assert "job (its golden rows)" in line and line.endswith("60"), "a preview names what a purge would take"

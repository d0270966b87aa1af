"""What `prefect.yaml` makes of a Prefect server, by Prefect's own commands."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from conftest import answers_of, ask_ledger, make_job, run_flow, wait_until
from prefect.client.orchestration import get_client
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import EventTrigger
from prefect.settings import get_current_settings
from test_retry import execute
from test_serve import post, receiver, row

import blocks
from webhooks.prefect_notifier import DUE, request_run

ROOT = Path(__file__).parent.parent


def prefect(*words: str) -> None:
    environment = {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def deployed(prefect_server: str) -> str:
    """A server that knows our blocks, deployments and automations. Gives its URL."""
    prefect("work-pool", "create", "rowtide", "--type", "process", "--overwrite")
    prefect("block", "register", "-m", "blocks")
    prefect("--no-prompt", "deploy", "--all")
    return prefect_server


async def test_everything_is_deployed_as_the_documents_say(deployed: str) -> None:
    async with get_client() as client:
        found = {each.name: each for each in await client.read_deployments() if "rowtide" in each.tags}
        for block in blocks.__all__:
            assert (await client.read_block_type_by_slug(getattr(blocks, block).get_block_type_slug())).description
    assert set(found) == {"manual", "nightly", "evaluate", "flush-inbox", "resume-runs"}
    assert all(each.description and each.work_pool_name == "rowtide" for each in found.values())
    (night,) = [schedule.schedule for schedule in found["nightly"].schedules]
    assert night.timezone == "Europe/Berlin"  # pyright: ignore[reportAttributeAccessIssue] # a cron schedule's
    await _every_way_in_makes_a_run({name: str(each.id) for name, each in found.items()})
    form: dict[str, Any] = dict(found["manual"].parameter_openapi_schema or {})["properties"]
    assert {"job", "source", "limit", "lane", "tiers", "budget", "dry_run"} <= set(form)
    assert all(field.get("description") for field in form.values())
    form = dict(found["evaluate"].parameter_openapi_schema or {})["properties"]
    assert {"job", "candidate", "tiers", "prompt", "skills", "settings", "against", "budget"} <= set(form)
    assert all(field.get("description") for field in form.values())


async def _every_way_in_makes_a_run(deployments: dict[str, str]) -> None:
    """As far as that goes without a worker: what is asked for over HTTP, and what the automations would start."""
    parameters = {"job": "companies", "limit": 2}
    asked = [await request_run(parameters, "message-1") for _ in range(2)]
    assert asked[0] == asked[1]  # one run, however often a message is repeated
    async with get_client() as client:
        made = await client.request(
            "POST",
            "/deployments/{id}/create_flow_run",
            path_params={"id": deployments["manual"]},
            json={"parameters": parameters},
        )
        for flow_run_id in (asked[0]["flow_run_id"], made.json()["id"]):
            flow_run = await client.read_flow_run(flow_run_id)
            assert (str(flow_run.deployment_id), flow_run.parameters) == (deployments["manual"], parameters)
        automations = {each.name: each for each in await client.read_automations()}
    for why in ("size", "age"):
        found = automations[f"flush-inbox-by-{why}"]
        (action,) = found.actions
        assert found.enabled and isinstance(action, RunDeployment)
        assert isinstance(found.trigger, EventTrigger)
        assert (str(action.deployment_id), found.trigger.expect) == (deployments["flush-inbox"], {DUE})
        assert found.trigger.match.matches({"rowtide.why": why})


def test_rows_that_come_by_webhook_are_flushed_by_the_automations(
    deployed: str, api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a signed POST to the sink, with nobody's help: only the worker is the test itself."""
    make_job(tmp_path / "jobs" / "sorting", source={"inbox": ["id", "message"]}, tiers=["opus"])
    with receiver(tmp_path, "--flush-rows", "2", "--flush-seconds", "1", prefect=deployed) as (_, url):
        post(url, "first", row(1))
        wait_until(lambda: flushes(deployed).keys() == {"flush-inbox-by-age"})
        post(url, "second", row(2))
        wait_until(lambda: flushes(deployed).keys() == {"flush-inbox-by-age", "flush-inbox-by-size"})
    found = flushes(deployed)
    assert [each["parameters"] for each in found.values()] == [{"job": "sorting"}] * 2
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    assert asyncio.run(execute_by_id(found["flush-inbox-by-age"]["id"])) == "Completed"
    assert answers_of(tmp_path / "home").keys() == {"m1", "m2"}


def flushes(server: str) -> dict[str, dict[str, Any]]:
    """The flow runs that automations have asked for, by the automation's name."""
    asked = {"flows": {"name": {"any_": ["flush_inbox"]}}}
    found = httpx.post(f"{server}/flow_runs/filter", json=asked).raise_for_status().json()
    return {each["created_by"]["display_value"]: each for each in found if each["created_by"]["type"] == "AUTOMATION"}


async def execute_by_id(flow_run_id: str) -> str:
    async with get_client() as client:
        return await execute(client, UUID(flow_run_id))


def test_a_dry_run_says_what_it_would_cost_and_asks_nothing(prefect_server: str, api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=6)
    told = run_flow(job, dry_run=True, tiers=["opus"])
    assert (told["rows"], list(told["starts"]), told["forecast"]["likely_usd"] > 0) == (6, ["opus"], True)
    assert ask_ledger(tmp_path / "home", "SELECT count(*) FROM run") == [(0,)]
    assert run_flow(job, tiers=["opus"])["loaded"] == 6
    assert ask_ledger(tmp_path / "home", "SELECT tiers FROM run") == [('["opus"]',)]

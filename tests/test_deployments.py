"""What `prefect.yaml` makes of a Prefect server, by Prefect's own commands."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import ask_ledger, make_job, run
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

import blocks

ROOT = Path(__file__).parent.parent


def prefect(*words: str) -> None:
    environment = {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_everything_is_deployed_as_the_documents_say(prefect_server: str) -> None:
    prefect("work-pool", "create", "rowtide", "--type", "process", "--overwrite")
    prefect("block", "register", "-m", "blocks")
    prefect("--no-prompt", "deploy", "--all")
    async with get_client() as client:
        found = {each.name: each for each in await client.read_deployments() if "rowtide" in each.tags}
        for block in blocks.__all__:
            assert (await client.read_block_type_by_slug(getattr(blocks, block).get_block_type_slug())).description
    assert set(found) == {"manual", "nightly", "flush-inbox", "resume-runs"}
    assert all(each.description and each.work_pool_name == "rowtide" for each in found.values())
    (night,) = [schedule.schedule for schedule in found["nightly"].schedules]
    assert night.timezone == "Europe/Berlin"  # pyright: ignore[reportAttributeAccessIssue] # a cron schedule's
    form: dict[str, Any] = dict(found["manual"].parameter_openapi_schema or {})["properties"]
    assert {"job", "source", "limit", "lane", "tiers", "budget", "dry_run"} <= set(form)
    assert all(field.get("description") for field in form.values())


def test_a_dry_run_says_what_it_would_cost_and_asks_nothing(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=6)
    told = run(job, dry_run=True, tiers=["opus"])
    assert (told["rows"], list(told["starts"]), told["forecast"]["likely_usd"] > 0) == (6, ["opus"], True)
    assert ask_ledger(tmp_path / "home", "SELECT count(*) FROM run") == [(0,)]
    assert run(job, tiers=["opus"])["loaded"] == 6
    assert ask_ledger(tmp_path / "home", "SELECT tiers FROM run") == [('["opus"]',)]

"""`rowtide doctor` looks at everything that a run needs, one thing after another, and says of each what to do."""

import asyncio
import os
import socket
import sqlite3
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import orjson
from conftest import make_job, run
from outside import ROOT, rowtide
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from test_world_mutations import Between

from cli.open_ledger import open_or_create_ledger
from cli.prefect_checks import examine_prefect_server
from emulator.server import start
from rowtide.ledger.ledger import ledger_url
from rowtide.stages.diagnose.findings import Finding

BROKEN = """
tools:
  dead: {command: python3, args: [-c, "raise SystemExit(3)"]}
"""


def examined(*words: str | Path, **how: Any) -> tuple[int, dict[str, dict[str, str]]]:
    done = rowtide("doctor", *words, "--json", **how)
    return done.status, {each["subject"]: each for each in orjson.loads(done.out)}


def test_all_is_well_with_the_demos_job_without_a_key(tmp_path: Path) -> None:
    environment = {"ROWTIDE_HOME": str(tmp_path / "home"), "ANTHROPIC_API_KEY": None}
    status, found = examined("companies", environment=environment)
    assert status == 0
    assert {each["verdict"] for each in found.values()} == {"ok"}
    assert {"API", "clock", "disk", "source", "model haiku", "tools.register", "gates", "sink"} <= found.keys()
    assert not (tmp_path / "home" / "ledger.db").exists(), "looking makes no ledger"


def test_an_api_that_is_not_there_fails_alone(tmp_path: Path) -> None:
    with socket.socket() as probe:  # a port that nobody listens on
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        environment = {"ROWTIDE_HOME": str(tmp_path), "ANTHROPIC_API_KEY": "sk-secret-12345", "ANTHROPIC_BASE_URL": url}
        status, found = examined("companies", environment=environment)
    assert status == 2
    failed = {name for name, each in found.items() if each["verdict"] == "failed"}
    assert failed == {"API", "model haiku", "model sonnet", "model opus"}
    assert "sk-secret" not in str(found)


def test_one_broken_part_of_a_job_hides_no_other(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    file = job / "job.yaml"
    file.write_text(file.read_text() + BROKEN)
    status, found = examined(job, environment={"ROWTIDE_HOME": str(tmp_path / "home"), "ANTHROPIC_API_KEY": None})
    assert status == 2
    assert found["tools.dead"]["verdict"] == "failed"
    assert {found[name]["verdict"] for name in ("job", "source", "gates", "sink")} == {"ok"}


def test_a_job_that_cannot_be_read_is_named_with_file_line_and_key(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    file = job / "job.yaml"
    file.write_text(file.read_text() + "\nprompd: x\n")
    status, found = examined(job, environment={"ROWTIDE_HOME": str(tmp_path / "home"), "ANTHROPIC_API_KEY": None})
    assert status == 2
    assert f"{file}:" in found["job"]["detail"]
    assert "did you mean 'prompt'" in found["job"]["detail"]


def test_a_ledger_that_others_may_read_and_a_run_that_stands_still_are_warnings(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run(job, run_id="r1")
    home = Path(os.environ["ROWTIDE_HOME"])
    (home / "ledger.db").chmod(0o644)
    status, found = examined(job)
    assert status == 0, "warnings are no failure"
    assert found["ledger file"]["verdict"] == "warning"
    assert found["ledger file"]["advice"] == f"chmod 600 {home / 'ledger.db'}"
    assert found["ledger"]["verdict"] == "ok"
    assert "1 runs" in found["ledger"]["detail"]


def test_a_person_reads_each_finding_with_what_to_do(tmp_path: Path) -> None:
    done = rowtide("doctor", "companies", environment={"ROWTIDE_HOME": str(tmp_path), "ANTHROPIC_API_KEY": None})
    assert done.status == 0
    assert "ok       API: the emulator takes the key" in done.out
    assert "things looked at: 0 failed" in done.out
    assert "next: rowtide plan companies" in done.out
    assert ROOT.name not in done.err


class WrongClock(Between):
    """An API whose clock is an hour behind."""

    def __init__(self, behind: str) -> None:
        super().__init__(behind, lambda path, body: body)
        then = formatdate(time.time() - 3600, usegmt=True)
        handler: Any = self.server.RequestHandlerClass
        handler.date_time_string = lambda *_: then


def old_ledger(home: Path) -> None:
    """A ledger of a version that is not this one."""
    open_or_create_ledger(ledger_url(None, home)).close()
    with sqlite3.connect(home / "ledger.db") as db:
        db.execute("UPDATE migration SET name = 'm000_before_this'")


def test_what_is_broken_is_named_with_what_to_do(api: Any, tmp_path: Path) -> None:
    """One thing after another is wrong: only that is named."""
    between = WrongClock(api.url)
    try:
        _, found = examined(environment={"ANTHROPIC_BASE_URL": between.url})
    finally:
        between.close()
    assert (found["clock"]["verdict"], found["clock"]["advice"]) == ("warning", "let the machine keep its time by NTP")
    assert "1 h from the API's" in found["clock"]["detail"]

    proxied = {"ANTHROPIC_BASE_URL": "https://api.example.test", "HTTPS_PROXY": "http://me:pass-word@127.0.0.1:9"}
    _, found = examined(environment=proxied)
    assert found["API"]["verdict"] == "failed"
    assert "HTTPS_PROXY=" in found["API"]["advice"]
    assert "pass-word" not in str(found)

    done = rowtide("doctor", environment={"SSL_CERT_FILE": "/nowhere/ca.pem"})
    assert (done.status, "SSL_CERT_FILE: /nowhere/ca.pem" in done.err) == (2, True)

    job = make_job(tmp_path / "job", sink={"path": "/proc/results"})
    _, found = examined(job)
    assert (found["sink"]["verdict"], "/proc cannot be written" in found["sink"]["detail"]) == ("failed", True)

    old_ledger(Path(os.environ["ROWTIDE_HOME"]))
    _, found = examined()
    assert (found["ledger"]["verdict"], "m000_before_this" in found["ledger"]["detail"]) == ("failed", True)


def test_a_key_that_the_api_refuses_is_named_and_not_shown(tmp_path: Path) -> None:
    with start() as server:
        server.world.faults.load([{"call": "list", "do": {"status": 401}}])
        environment = {
            "ROWTIDE_HOME": str(tmp_path),
            "ANTHROPIC_API_KEY": "sk-not-mine",
            "ANTHROPIC_BASE_URL": server.url,
        }
        status, found = examined(environment=environment)
    assert status == 2
    assert "refused the key in ANTHROPIC_API_KEY" in found["API"]["detail"]
    assert "ANTHROPIC_API_KEY" in found["API"]["advice"]
    assert "sk-not-mine" not in str(found)


def test_prefect_without_a_worker_and_with_slots_that_nobody_frees(prefect_server: str) -> None:
    async def broken() -> dict[str, Finding]:
        async with get_client() as client:
            await client.create_work_pool(WorkPoolCreate(name="forsaken", type="process"))
            limit = GlobalConcurrencyLimitCreate(name="stuck", limit=2, active_slots=2)
            await client.create_global_concurrency_limit(concurrency_limit=limit)
        return {each.subject: each for each in await examine_prefect_server(prefect_server)}

    found = asyncio.run(broken())
    assert found["work pool forsaken"].verdict == "warning"
    assert "prefect worker start" in found["work pool forsaken"].advice
    assert found["limit stuck"].advice == "prefect global-concurrency-limit update stuck --active-slots 0"

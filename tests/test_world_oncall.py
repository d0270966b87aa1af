"""What somebody who is called at three in the morning finds: whom it concerns, what to do, and what it is about."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest
from conftest import ANSWER, ThisProcess, ask_ledger, make_job, run, wait_until
from outside import ROOT, rowtide
from prefect.settings import PREFECT_LOGGING_EXTRA_LOGGERS, temporary_settings
from test_make_serve import Service, ask, serving

from emulator.server import start
from flows.pump import pump
from orchestration.set_up_observability import OURS, set_up_observability
from orchestration.show_logs_on_page import show_logs_on_page
from rowtide.errors import RowtideError, UserMistake
from rowtide.job.job_file import read_spec
from rowtide.job.job_folder import check_runbook, load_job
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.report.next_commands import show_command
from rowtide.stages.job_objectives import watch_jobs
from rowtide.stages.orchestrator import NOTHING, orchestrated_by

CONTACT = {"owner": "data-team@example.com", "runbook": "https://wiki.example.com/companies?at=night"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("owner", "", "one line of text"),
        ("owner", " ada", "one line of text"),
        ("owner", "ada\nbob", "one line of text"),
        ("owner", "a\u202eda", "one line of text"),
        ("owner", "x" * 201, "one line of text"),
        ("owner", ["ada"], "valid string"),
        ("owner", 7, "valid string"),
        ("runbook", "ftp://wiki.example.com/x", "a URL of the web"),
        ("runbook", "https://", "a URL of the web"),
        ("runbook", "https://ada:secret@wiki.example.com/x", "a login does not belong here"),
        ("runbook", "/etc/passwd", "in the job's folder"),
        ("runbook", "../other/runbook.md", "in the job's folder"),
        ("runbook", "https://[wiki", "Invalid IPv6 URL"),
    ],
)
def test_an_owner_is_a_line_and_a_runbook_a_place(tmp_path: Path, key: str, value: Any, said: str) -> None:
    folder = make_job(tmp_path / "job", **{key: value})
    with pytest.raises(UserMistake, match=said) as raised:
        read_spec(folder)
    assert (raised.value.key, raised.value.line is not None) == (key, True)


def test_a_runbook_that_is_no_url_is_a_file_of_the_job(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "job", runbook="docs/runbook.md")
    with pytest.raises(UserMistake, match=r"no file 'docs/runbook.md' in the job's folder"):
        check_runbook(load_job(folder))
    (folder / "docs").mkdir()
    (folder / "docs" / "runbook.md").symlink_to("/etc/hostname")
    with pytest.raises(UserMistake, match="no file"):
        check_runbook(load_job(folder))
    (folder / "docs" / "runbook.md").unlink()
    (folder / "docs" / "runbook.md").write_text("# What to do")
    check_runbook(load_job(folder))


def test_neither_changes_a_version(tmp_path: Path) -> None:
    before = load_job(make_job(tmp_path / "job")).version
    after = load_job(make_job(tmp_path / "job", **CONTACT)).version
    assert (before.asking, before.judging) == (after.asking, after.judging)


def test_both_stand_wherever_a_run_is_told_of_as_the_job_says_now(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=2, tiers=["opus"], **CONTACT)
    found = run(job, run_id="r1")
    assert (found["owner"], found["runbook"]) == (CONTACT["owner"], CONTACT["runbook"])
    on_disk = json.loads((tmp_path / "home" / "reports" / "r1.json").read_bytes())
    assert (on_disk["owner"], on_disk["runbook"]) == (CONTACT["owner"], CONTACT["runbook"])
    (listed,) = json.loads(rowtide("runs", "--json").out)
    assert (listed["owner"], listed["runbook"]) == (CONTACT["owner"], CONTACT["runbook"])
    assert "data-team@example.com · runbook: https://wiki" in rowtide("show", "m0").out
    (job / "runbook.md").write_text("# What to do")
    make_job(job, rows=2, tiers=["opus"], owner="night-shift", runbook="runbook.md")
    gone_on = run(job, run_id="r1")
    assert (gone_on["owner"], gone_on["runbook"]) == ("night-shift", str(job / "runbook.md"))


def test_a_job_that_cannot_be_read_keeps_no_other_from_being_watched(
    api: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = make_job(tmp_path / "good", slo={"window_days": 1, "coverage": 0.5})
    run(good, run_id="r1")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "job.yaml").write_text("prompd: x\n")
    ledger = Ledger(ledger_url(os.environ.get("ROWTIDE_LEDGER"), Path(os.environ["ROWTIDE_HOME"])))
    seen = watch_jobs(ledger, [broken, good], now=datetime.now(UTC), skip_unreadable=True)
    assert [each.job for each in seen] == [good.name]
    assert "job.yaml:1" in caplog.text, "and somebody is told"
    with pytest.raises(UserMistake):
        watch_jobs(ledger, [broken], now=datetime.now(UTC))


def test_slo_exits_0_and_says_so_where_nothing_is_promised_or_has_run(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=2, tiers=["opus"])
    for words, said in ((["slo"], "nothing has run here yet"), (["slo", job], "nothing has run here yet")):
        done = rowtide(*words)
        assert (done.status, said in done.err) == (0, True), done.err
    run(job, run_id="r1")
    done = rowtide("slo", job, "--json")
    assert (done.status, json.loads(done.out)) == (0, {})
    assert "nothing is promised of job" in done.err
    assert rowtide("slo", tmp_path / "nowhere").status == 2


class Shown(ThisProcess):
    """An orchestrator that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__(None)
        self.texts: dict[str, str] = {}
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.names: list[str] = []
        self.labels: dict[str, str | None] = {}
        self.told: list[dict[str, Any]] = []

    async def show_text(self, words: str, *, key: str, about: str) -> None:
        self.texts[key] = words

    async def show_table(self, table: list[dict[str, Any]], *, key: str, about: str) -> None:
        self.tables[key] = table

    async def name(self, words: str, labels: Mapping[str, str | None] = NOTHING) -> None:
        self.names.append(words)
        self.labels |= labels

    def emit(self, event: str, kind: str, subject: str, payload: Mapping[str, Any], **_: Any) -> None:
        self.told.append({"event": event, **payload})


@pytest.mark.parametrize(
    ("parameters", "fault", "called", "go_on"),
    [
        ({"budget": 0.0001}, None, "stopped at its budget: 0 of 2 rows", "rowtide resume r1 --budget 0."),
        ({}, {"status": 401}, "the API refuses the account: 0 of 2 rows", None),
    ],
)
def test_a_run_that_stopped_is_called_by_why_and_a_budget_is_told_with_one_that_is_enough(
    api: Any, faults: Any, tmp_path: Path, parameters: Any, fault: Any, called: str, go_on: str | None
) -> None:
    """Where runs are listed, `0 of 2 rows are loaded` was all that was said of either."""
    if fault:
        faults({"call": "create", "do": fault})
    shown = Shown()
    with orchestrated_by(shown), pytest.raises(RowtideError):
        asyncio.run(pump(str(make_job(tmp_path / "job", rows=2, tiers=["opus"])), run_id="r1", **parameters))
    assert shown.names[-1].startswith(f"job r1: {called}")
    assert all(each["command"].startswith(go_on or "no") and "stopped at" in each["why"] for each in shown.told)
    assert len(shown.told) == (1 if go_on else 0)


HARD_KEYS = [
    "a b",
    "it's",
    "-x",
    "$(id)",
    "```",
    "a`b`c",
    "ü",
    "*",
    "a\\b",
    'say "so"',
    "--run",
    "tab\there",
    "#x",
    "\u202eevil",
]


def test_each_command_of_an_artifact_works_as_it_is_printed(api: Any, tmp_path: Path) -> None:
    """Also for keys that a shell, or Markdown, would take for something else."""
    rows = "".join(json.dumps({"id": key, "message": "nothing to be sorted"}) + "\n" for key in HARD_KEYS)
    answer = ANSWER + "\n\ndef check_order(answer, row):\n    return f'no order {row[\"id\"]}'\n"
    job = make_job(tmp_path / "job", answer=answer, tiers=["opus"], limits={"same_errors": 0}, **CONTACT)
    (job / "rows.jsonl").write_text(rows)
    spec = (job / "job.yaml").read_text().replace("rows.csv", "rows.jsonl")
    (job / "job.yaml").write_text(spec)
    shown = Shown()
    with orchestrated_by(shown):
        asyncio.run(pump(str(job), run_id="r1"))
    text = shown.texts["run-report"]
    assert shown.labels == {"job": "job", "run": "r1", **CONTACT}
    commands = text.partition("```sh\n")[2].partition("\n```")[0]
    assert f"` {CONTACT['owner']} `" in text and f"<{CONTACT['runbook']}>" in text
    tabled = [each[name] for each in shown.tables["run-quarantined"] for name in ("all of them", "one of them")]
    assert "rowtide report r1" in commands and "rowtide quarantine list r1" in commands
    assert all(each in commands for each in tabled)
    every = "\n".join([commands, *(show_command("r1", key) for key in HARD_KEYS)])
    done = shell(every, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for key in HARD_KEYS:
        assert "\n" not in show_command("r1", key)
    assert "home/reports/r1.html" in done.stdout


def shell(commands: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """What somebody types who stands there with Rowtide installed; it ends with the first that fails."""
    (folder / "bin").mkdir()
    (folder / "bin" / "rowtide").write_text(f'#!/bin/sh\nexec {sys.executable} -m cli "$@"\n')
    (folder / "bin" / "rowtide").chmod(0o755)
    known = {name: value for name, value in os.environ.items() if name != "ROWTIDE_HOME"}
    known |= {"PYTHONPATH": str(ROOT), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    words = ["bash", "-euc", commands]
    return subprocess.run(words, cwd=folder, env=known, capture_output=True, text=True, check=False)


@pytest.fixture
def levels() -> Generator[None]:
    before = {name: logging.getLogger(name).level for name in OURS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_what_prefect_is_to_take_to_a_runs_page_is_let_through(levels: None) -> None:
    """Prefect gives an extra logger a handler and no level: it inherits the root's WARNING."""
    for name in OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    set_up_observability()
    assert not logging.getLogger("rowtide").isEnabledFor(logging.INFO)  # in a terminal, lines are for trouble

    with temporary_settings({PREFECT_LOGGING_EXTRA_LOGGERS: "rowtide,orchestration,tasks,blocks"}):
        show_logs_on_page()
    assert all(
        logging.getLogger(name).isEnabledFor(logging.INFO) for name in ("rowtide", "orchestration", "tasks", "blocks")
    )
    assert not logging.getLogger("duckdb").isEnabledFor(logging.INFO)


@pytest.mark.slow
def test_a_run_that_is_held_fails_or_dies_is_named_logged_and_told_of(tmp_path: Path) -> None:
    """All of `make serve`, for real: its own words while it comes up, and what becomes of three runs in trouble."""
    jobs = tmp_path / "jobs"
    held = make_job(jobs / "orders", rows=3, tiers=["opus"], gates={"rows": "rows.yaml"}, **CONTACT)
    (held / "rows.yaml").write_text(json.dumps([FEW]))
    failing = ANSWER + "\n\ndef check_total(answer, row):\n    return float(row['total'])\n"
    make_job(jobs / "tickets", rows=20, tiers=["opus"], answer=failing, **CONTACT)
    make_job(jobs / "parcels", rows=3, tiers=["opus"], **CONTACT)
    slow = [{"batch": {"key": "night"}, "do": {"seconds": 600}}]
    with start(tmp_path / "api") as api, alerts() as (told, url):
        api.world.faults.load(slow)
        key = {"ANTHROPIC_API_KEY": "night", "ANTHROPIC_BASE_URL": api.url, "ROWTIDE_ON_CALL_URL": url}
        with serving(tmp_path, **key) as service:
            _each_part_was_waited_for(service.said.read_text())
            dies = _begin(service, jobs / "parcels")
            wait_until(lambda: ask_ledger(service.home, "SELECT 1 FROM batch WHERE state = 'open'"))
            kill(dies)
            api.world.faults.clear()
            holds, fails = _begin(service, jobs / "orders"), _begin(service, jobs / "tickets")
            for job in ("orders", "tickets", "parcels"):
                wait_until(lambda job=job: any(f"job: {job}\n" in each["text"] for each in told))
            found = {job: _seen(service, each) for job, each in {"orders": holds, "tickets": fails}.items()}
    for job, seen in found.items():
        run_id = next(tag for tag in seen["tags"] if tag.startswith("run:")).removeprefix("run:")
        assert seen["name"].startswith(f"{run_id}: ") and run_id.startswith(f"{job}-")
        wanted = {"rowtide", f"job:{job}", f"owner:{CONTACT['owner']}", f"runbook:{CONTACT['runbook']}"}
        assert wanted <= set(seen["tags"])
        lines = [each["message"] for each in seen["logs"] if each["name"].startswith("rowtide")]
        assert any(line.startswith(f"run {run_id} of {job}: ") for line in lines), lines
        assert not any("night" in line for line in lines)
    assert any("rows are to be asked, by lane" in each["message"] for each in found["tickets"]["logs"])  # INFO
    commands = {
        "orders": "rowtide approve orders-",
        "tickets": "rowtide resume tickets-",
        "parcels": "again within four",
    }
    for job, go_on in commands.items():
        text = next(each["text"] for each in told if f"job: {job}\n" in each["text"])
        assert {f"owner: {CONTACT['owner']}", f"runbook: {CONTACT['runbook']}"} <= set(text.splitlines())
        assert go_on in text.partition("go on: ")[2] and f"run: {job}-" in text


FEW = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 100}, "severity": "critical"}


def _each_part_was_waited_for(said: str) -> None:
    before, ready, _ = said.partition("Ready.")
    assert ready
    for part in ("server", "receiver", "worker"):
        assert f"{part} is ready after" in before, said


def _begin(service: Service, job: Path) -> str:
    manual = httpx2.get(f"{service.api}/deployments/name/run_job/manual", auth=service.login).json()["id"]
    made: list[str] = []

    def is_made() -> list[str]:
        """Prefect refuses what meets another write of its database; its own client asks again too."""
        with suppress(httpx2.HTTPStatusError):
            body = {"parameters": {"job": str(job)}, "idempotency_key": job.name}
            made.append(ask(service, f"/deployments/{manual}/create_flow_run", body)["id"])
        return made

    wait_until(is_made)
    return made[0]


def _seen(service: Service, flow_run: str) -> dict[str, Any]:
    """A flow run, and the lines on its page."""
    found = httpx2.get(f"{service.api}/flow_runs/{flow_run}", auth=service.login).json()
    asked = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200}
    return {**found, "logs": ask(service, "/logs/filter", asked)}


def kill(flow_run: str) -> None:
    """SIGKILL to the process of a flow run, which Prefect tells its id."""
    mark = f"PREFECT__FLOW_RUN_ID={flow_run}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has gone, or is not ours to read
            if mark in environment.read_bytes():
                os.kill(int(environment.parent.name), signal.SIGKILL)


@contextmanager
def alerts() -> Generator[tuple[list[dict[str, str]], str]]:
    """Whom Prefect tells: what it was told, and its URL."""
    told: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # quiet
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield told, f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()

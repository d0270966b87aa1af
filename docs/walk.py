"""`python docs/walk.py [PICTURES [SYMPTOM…]]`: cause what docs/symptoms.md tells of, and walk it as one on call does.

`make serve` in a folder of its own, on the emulator; whoever is on call has a browser and one page of documents. Each
symptom is looked at where it is seen first, mended by what the page and the UI say, and seen to be well. Photographs go
to the folder that is named, or nowhere. Ends with an error when something is not as docs/symptoms.md says.
"""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import httpx
import pyarrow.parquet as pq
import yaml
from playwright.sync_api import Page, sync_playwright
from standardwebhooks import Webhook

from emulator.server import start

ROOT = Path(__file__).parent.parent
SMALL = ROOT / "chaos" / "jobs" / "small"
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
PATIENCE_SECONDS = 240.0
UI_SETTLES_MS = 3_000
ODD = "".join(f"m{n},A-1,The parcel {n} is late,and so, on, and, on\n" for n in range(40))
GOOD = "".join(f"g{n},A-1,The parcel {n} is late.\n" for n in range(5))
HEAD = "message_id,order_id,message\n"
MANY = [{"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 100}, "severity": "critical"}]


@dataclass
class Walk:
    """A service in trouble, the browser of whoever is called, and what the pager said."""

    folder: Path
    environment: Mapping[str, str]
    faults: Any
    page: Page
    pictures: Path | None
    api: str = field(init=False)
    receiver: str = field(init=False)
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.api = f"http://127.0.0.1:{self.environment['ROWTIDE_PREFECT_PORT']}/api"
        self.receiver = f"http://127.0.0.1:{self.environment['ROWTIDE_RECEIVER_PORT']}"
        login = next((self.folder / "home").rglob("prefect.login")).read_text()
        self.client = httpx.Client(base_url=self.api, auth=httpx.BasicAuth(*login.split(":", 1)), timeout=60)
        token = self.client.get("/csrf-token", params={"client": "walk"}).json()["token"]
        self.client.headers.update({"prefect-csrf-token": token, "prefect-csrf-client": "walk"})
        self.page.goto(f"{self.api.removesuffix('/api')}/login")
        self.page.evaluate("word => localStorage.setItem('prefect-password', btoa(word))", login)

    def post(self, path: str, body: object) -> Any:
        return self.client.post(path, json=body).raise_for_status().json()

    def begin(self, job: str, **parameters: object) -> str:
        deployment = self.client.get("/deployments/name/run_job/manual").json()["id"]
        body = {"parameters": {"job": f"jobs/{job}", **parameters}}
        return self.post(f"/deployments/{deployment}/create_flow_run", body)["id"]

    def state(self, flow_run: str) -> str:
        return self.client.get(f"/flow_runs/{flow_run}").json()["state"]["name"]

    def is_in(self, flow_run: str, *states: str) -> None:
        until(lambda: self.state(flow_run) in states, f"{flow_run} is {states}")

    def open(self, path: str) -> None:
        self.page.goto(self.api.removesuffix("/api") + path)

    def look(self, name: str) -> None:
        self.page.wait_for_timeout(UI_SETTLES_MS)
        if self.pictures:
            self.page.screenshot(path=self.pictures / f"{name}.png")

    def look_at_run(self, flow_run: str, name: str, *tabs: str) -> None:
        self.open(f"/runs/flow-run/{flow_run}")
        self.look(name)
        for tab in tabs:
            self.page.get_by_text(tab, exact=True).first.click()
            self.look(f"{name}-{tab.lower().replace(' ', '-')}")


def main() -> None:
    pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here; sudo apt install chromium")
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        api = stack.enter_context(start(folder / "api", batch_seconds=(1.0, 3.0)))
        told, pager = stack.enter_context(alerts())
        environment = own_environment(folder, {"ANTHROPIC_BASE_URL": api.url, "ROWTIDE_ON_CALL_URL": pager})
        stack.enter_context(service(folder, environment))
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_context(viewport={"width": 1100, "height": 1200}).new_page()
        walk = Walk(folder, environment, api.world.faults, page, pictures)
        symptoms = (a_gate_holds, a_budget_is_reached, a_key_is_refused, an_odd_file, a_backlog)
        for symptom in [each for each in symptoms if not sys.argv[2:] or each.__name__ in sys.argv[2:]]:
            began = time.monotonic()
            symptom(walk)
            say(f"{symptom.__name__}: mended, {time.monotonic() - began:.0f} s")
        say("\n\n".join(["The pager said:", *told]))
        browser.close()


def a_gate_holds(walk: Walk) -> None:
    job = make_job(walk.folder, "orders", GOOD, gates={"rows": "rows.yaml"})
    (job / "rows.yaml").write_text(yaml.safe_dump(MANY))
    run = walk.begin("orders")
    walk.is_in(run, "Suspended")
    walk.look_at_run(run, "held", "Logs")
    walk.open(f"/runs/flow-run/{run}")
    walk.page.get_by_role("button", name="Resume").first.click()
    walk.page.locator(".p-select-button__control").last.press("Space")
    walk.page.locator(".p-select-option", has_text="approve").click()
    walk.look("held-form")
    walk.page.get_by_role("button", name="Submit").click()
    walk.is_in(run, "Completed")
    assert loaded(walk.folder, "orders") == 5


def a_budget_is_reached(walk: Walk) -> None:
    make_job(walk.folder, "tickets", GOOD)
    run = walk.begin("tickets", budget=0.0001)
    walk.is_in(run, "Failed")
    walk.look_at_run(run, "budget", "Logs")
    said = walk.client.get(f"/flow_runs/{run}").json()
    assert ": stopped at its budget: 0 of 5 rows are loaded" in said["name"], said["name"]
    command = re.findall(r"`(rowtide resume \S+ --budget \S+)`", said["state"]["message"])[0]
    words = [sys.executable, "-m", "cli", *command.split()[1:-1], "1"]
    subprocess.run(words, cwd=walk.folder, env=walk.environment, check=True, stdout=subprocess.DEVNULL)
    assert loaded(walk.folder, "tickets") == 5


def a_key_is_refused(walk: Walk) -> None:
    make_job(walk.folder, "parcels", GOOD)
    walk.faults.load([{"call": "create", "do": {"status": 401, "message": "invalid x-api-key"}}])
    run = walk.begin("parcels")
    walk.is_in(run, "Failed")
    walk.look_at_run(run, "key", "Logs")
    walk.faults.clear()
    walk.open(f"/runs/flow-run/{run}")
    walk.page.get_by_role("button", name="Retry").first.click()
    walk.page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    walk.is_in(run, "Completed")
    assert loaded(walk.folder, "parcels") == 5


def an_odd_file(walk: Walk) -> None:
    job = make_job(walk.folder, "odd", GOOD + ODD)
    run = walk.begin("odd")
    walk.is_in(run, "Completed")
    walk.look_at_run(run, "odd", "Artifacts")
    (table,) = walk.post("/artifacts/filter", {"artifacts": {"key": {"any_": ["run-quarantined"]}}})
    say(f"  run-quarantined: {table['data']}")
    (job / "rows.csv").write_text(HEAD + GOOD + ODD.replace("late,and so, on, and, on", "late."))
    walk.is_in(walk.begin("odd"), "Completed")
    assert loaded(walk.folder, "odd") > 40  # the emulator gets one in forty wrong


def a_backlog(walk: Walk) -> None:
    make_job(walk.folder, "inbox", "", source={"inbox": ["message_id", "order_id", "message"]})
    walk.client.patch("/work_pools/rowtide", json={"is_paused": True}).raise_for_status()
    for n in range(5):
        send(walk.receiver, "inbox", f"w{n}")
    late = {"flow_runs": {"state": {"name": {"any_": ["Late"]}}}}
    until(lambda: walk.post("/flow_runs/filter", late), "a flow run is Late")
    walk.open("/work-pools")
    walk.look("backlog")
    walk.page.get_by_role("switch").first.click()
    until(lambda: loaded(walk.folder, "inbox") == 5, "the inbox is empty")


def loaded(folder: Path, job: str) -> int:
    """How many rows of a job are in its sink."""
    return sum(pq.read_metadata(part).num_rows for part in (folder / "home" / job).rglob("*.parquet"))


def send(receiver: str, job: str, message_id: str) -> None:
    body, now = (
        json.dumps([{"message_id": message_id, "order_id": "A-2", "message": "The manual is torn."}]),
        datetime.now(UTC),
    )
    headers = {"webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = Webhook(SECRET).sign(message_id, now, body)
    httpx.post(f"{receiver}/v1/inbox/{job}", content=body, headers=headers).raise_for_status()


def own_environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The environment of the service, and of whoever types a command beside it."""
    others = ("PREFECT", "ROWTIDE", "ANTHROPIC")
    known = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    ports = {"ROWTIDE_PREFECT_PORT": str(free_port()), "ROWTIDE_RECEIVER_PORT": str(free_port())}
    own = {
        "ROWTIDE_HOME": str(folder / "home"),
        "ROWTIDE_WEBHOOK_SECRETS": SECRET,
        "ROWTIDE_CONFIRM_WITHIN_SECONDS": "1",
    }
    return {**known, **ports, **own, "ANTHROPIC_API_KEY": "night", "PYTHONPATH": str(ROOT), **more}


@contextmanager
def service(folder: Path, environment: Mapping[str, str]) -> Generator[None]:
    """`make serve` in `folder`."""
    (folder / "jobs").mkdir()
    shutil.copy(ROOT / "prefect.yaml", folder)
    command, nothing = [sys.executable, "-m", "deploy.serve"], subprocess.DEVNULL
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=nothing, stdout=said, stderr=said, start_new_session=True
        )
    try:
        until(lambda: "Ready." in (folder / "said").read_text() or process.poll() is not None, "make serve is ready")
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


@contextmanager
def alerts() -> Generator[tuple[list[str], str]]:
    """The pager: what it was told, and its URL."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["text"])
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


def make_job(folder: Path, name: str, rows: str, **changed: object) -> Path:
    job = folder / "jobs" / name
    shutil.copytree(SMALL, job)
    spec = yaml.safe_load((job / "job.yaml").read_text()) | {
        "sink": {"kind": "parquet", "path": name},
        "owner": "data-team@example.com",
        **changed,
    }
    (job / "job.yaml").write_text(yaml.safe_dump(spec))
    (job / "rows.csv").write_text(HEAD + rows)
    return job


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until(look: Callable[[], Any], what: str) -> Any:
    """What `look` finds, once it finds anything."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with suppress(httpx.HTTPError):
            if found := look():
                return found
        time.sleep(1)
    sys.exit(f"it takes too long until {what}")


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

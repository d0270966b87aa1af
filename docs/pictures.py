"""`make pictures`: do in Prefect's UI what a person does there, on a service of our own, and photograph it.

The companies job on the emulator: the form of the `manual` deployment, a run that a gate holds and its form, the run's
tasks and artifacts, a run that is killed and retried, and the report. Writes docs/pictures/*.png, and ends with an
error when a click does not do what its button says. Needs Chromium; all else is on this machine, in a folder that is
deleted.
"""

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import yaml
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE_SECONDS = 600.0
CLICK_SECONDS = 30.0  # and its page says that something came of it
UI_SETTLES_MS = 8_000
STRICT = """- type: expect_column_values_to_be_between
  kwargs: {column: coverage, min_value: 0.999}
  severity: critical
"""
FAULTS = "- rows: {share: 0.04, attempts: 1}\n  result: {errored: api_error}\n"


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here; sudo apt install chromium")
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        environment = stack.enter_context(claude(home))
        api = stack.enter_context(service(home, environment))
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        held_and_approved(page, api, home)
        killed_and_retried(page, api)
        sys.stdout.write(f"killed and retried: {paid_once(home, environment)}\n")
        (report,) = sorted((home / "rowtide" / "reports").glob("*.html"), key=lambda file: file.stat().st_mtime)[-1:]
        photograph_report(browser, report)
        browser.close()
    for read_report_data in sorted(PICTURES.glob("*.png")):
        sys.stdout.write(f"{read_report_data.relative_to(ROOT)}  {read_report_data.stat().st_size / 1000:.0f} KB\n")


@contextmanager
def claude(home: Path) -> Generator[dict[str, str]]:
    """A stand-in for the Claude API whose batches take a while, and some of whose rows fail.

    Gives the environment in which it is asked.
    """
    (home / "faults.yaml").write_text(FAULTS)
    options = ["--port", "0", "--batch-seconds", "2..6", "--faults", str(home / "faults.yaml")]
    with started([sys.executable, "-m", "emulator", *options], os.environ, stdout=subprocess.PIPE) as process:
        assert process.stdout
        url = process.stdout.readline().decode().rpartition(" ")[2].strip()
        yield {**os.environ, "ANTHROPIC_API_KEY": "pictures", "ANTHROPIC_BASE_URL": url, "PYTHONPATH": str(ROOT)}


@contextmanager
def service(home: Path, environment: Mapping[str, str]) -> Generator[str]:
    """What `make serve` brings up. Gives the URL of Prefect's API."""
    prefect, receiver = free_port(), free_port()
    ports = {"ROWTIDE_PREFECT_PORT": str(prefect), "ROWTIDE_RECEIVER_PORT": str(receiver)}
    own = {**environment, **ports, "ROWTIDE_HOME": str(home / "rowtide"), "PREFECT_HOME": str(home / "prefect")}
    with started([sys.executable, "-m", "deploy.serve"], own):
        until(lambda: is_up(f"http://127.0.0.1:{receiver}/health"))
        yield f"http://127.0.0.1:{prefect}/api"


def held_and_approved(page: Page, api: str, home: Path) -> None:
    """A run begun by the form of `manual`; its load gate holds it, and the form on its page lets it go on."""
    job = home / "companies"
    shutil.copytree(ROOT / "jobs" / "companies", job)
    (job / "gates" / "load.yaml").write_text(STRICT)
    spec = yaml.safe_load((job / "job.yaml").read_text())
    (job / "job.yaml").write_text(yaml.safe_dump({**spec, "gates": {**spec["gates"], "load": "gates/load.yaml"}}))
    flow_run = run_by_form(page, api, {"job": str(job), "limit": "60"}, read_report_data="prefect-manual")
    until(lambda: state_of(api, flow_run) == "Suspended")
    do(lambda: approve(page, page_of(api, flow_run)), until_seen=lambda: state_of(api, flow_run) != "Suspended")
    until(lambda: state_of(api, flow_run) == "Completed")
    page.goto(page_of(api, flow_run))
    for name, tab, height in (("prefect-run", "Task Runs", 900), ("prefect-artifacts", "Artifacts", 1500)):
        page.set_viewport_size({"width": 1280, "height": height})
        page.get_by_text(tab, exact=True).first.click()
        photograph(page, name)


def approve(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Resume").first.click()
    page.locator(".p-select-button__control").last.press("Space")
    page.locator(".p-select-option", has_text="approve").click()
    page.locator(".p-textarea__control").first.fill("a small first run")
    photograph(page, "prefect-hold")
    page.get_by_role("button", name="Submit").click()


def killed_and_retried(page: Page, api: str) -> None:
    """A run whose process dies as SIGKILL would have it, and a person who does not wait for `resume-runs` to see it."""
    page.set_viewport_size({"width": 1280, "height": 900})
    watch = deployment_of(api, "resume_runs/resume-runs")
    httpx.patch(f"{api}/deployments/{watch}", json={"paused": True}).raise_for_status()
    flow_run = run_by_form(page, api, {"job": "jobs/companies", "limit": "200"})
    until(lambda: len(task_runs(api, flow_run)) > 3)
    for process in processes_of(flow_run):
        os.kill(process, signal.SIGKILL)
    until(lambda: state_of(api, flow_run) == "Crashed")
    until(lambda: worker_is_through(api, flow_run))  # else its second report of the crash would crash the retry
    do(lambda: retry(page, page_of(api, flow_run)), until_seen=lambda: state_of(api, flow_run) != "Crashed")
    until(lambda: state_of(api, flow_run) == "Completed")
    page.goto(page_of(api, flow_run))
    page.get_by_text("Task Runs", exact=True).first.click()
    photograph(page, "prefect-retried")


def retry(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Retry").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()


def run_by_form(page: Page, api: str, values: Mapping[str, str], *, read_report_data: str | None = None) -> str:
    """Fill in the form of the `manual` deployment and send it off. Returns the id of the flow run."""
    deployment = deployment_of(api, "run_job/manual")
    known = {each["id"] for each in flow_runs(api, deployment)}
    page.goto(f"{api.removesuffix('/api')}/deployments/deployment/{deployment}/run")
    for name, value in values.items():
        fill(field(page, name), value)
    if read_report_data:
        photograph(page, read_report_data)
    page.get_by_role("button", name="Submit").click()
    return until(lambda: [each["id"] for each in flow_runs(api, deployment) if each["id"] not in known])[0]


def field(page: Page, name: str) -> Locator:
    """A parameter's place in the form: the innermost that its label heads."""
    label = page.get_by_text(re.compile(rf"^{name}( \(Optional\))?$"))
    return page.locator(".schema-form-property", has=label).last


def fill(where: Locator, value: str) -> None:
    if where.locator("textarea, input").count() == 0:
        where.get_by_role("button").filter(has_not_text="None").last.click()
    where.locator("textarea, input").first.fill(value)
    expect(where.locator("textarea, input").first).to_have_value(value)


def photograph(page: Page, name: str) -> None:
    page.wait_for_timeout(UI_SETTLES_MS)  # it draws as its own calls come in, and says nothing when it is through
    page.screenshot(path=PICTURES / f"{name}.png")


def photograph_report(browser: Browser, report: Path) -> None:
    for name, width, height in (("report-light", 1180, 1560), ("report-dark", 1180, 1560), ("report-phone", 390, 1700)):
        scheme = "dark" if name == "report-dark" else "light"
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        page = context.new_page()
        page.goto(report.as_uri())
        page.screenshot(path=PICTURES / f"{name}.png")
        context.close()


def page_of(api: str, flow_run: str) -> str:
    return f"{api.removesuffix('/api')}/runs/flow-run/{flow_run}"


def deployment_of(api: str, name: str) -> str:
    return httpx.get(f"{api}/deployments/name/{name}").raise_for_status().json()["id"]


def flow_runs(api: str, deployment: str) -> list[dict[str, Any]]:
    return httpx.post(f"{api}/flow_runs/filter", json={"deployments": {"id": {"any_": [deployment]}}}).json()


def task_runs(api: str, flow_run: str) -> list[dict[str, Any]]:
    return httpx.post(f"{api}/task_runs/filter", json={"flow_runs": {"id": {"any_": [flow_run]}}}).json()


def state_of(api: str, flow_run: str) -> str:
    state = httpx.get(f"{api}/flow_runs/{flow_run}").json()["state"]
    if state["type"] == "FAILED":
        sys.exit(f"the run failed: {state['message']}")
    return state["name"]


def processes_of(flow_run: str) -> list[int]:
    """The processes in which a flow run runs: Prefect leaves its id in their environment."""
    mark, found = f"PREFECT__FLOW_RUN_ID={flow_run}".encode(), []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it ended, or is not ours to read
            if mark in environment.read_bytes():
                found.append(int(environment.parent.name))
    return found


def worker_is_through(api: str, flow_run: str) -> bool:
    """Whether the worker has said its last word about a flow run's process."""
    event, related = {"name": ["prefect.worker.executed-flow-run"]}, {"id": [f"prefect.flow-run.{flow_run}"]}
    asked = {"filter": {"event": event, "related": related}}
    return httpx.post(f"{api}/events/filter", json=asked).raise_for_status().json()["total"] > 0


def paid_once(home: Path, environment: Mapping[str, str]) -> str:
    """What the API billed, which must be what the ledger filed; and how many batches that were."""
    asked = {"api_key": environment["ANTHROPIC_API_KEY"]}
    account = httpx.get(f"{environment['ANTHROPIC_BASE_URL']}/_emulator/ledger", params=asked).json()["account"]
    with closing(sqlite3.connect(home / "rowtide" / "ledger.db")) as ledger:
        (filed,) = ledger.execute("SELECT sum(cost_micro) FROM row").fetchone()
        (batches,) = ledger.execute("SELECT count(*) FROM batch WHERE lane = 'batch'").fetchone()
    if (account["cost_micro"], account["batches_created"]) != (filed, batches):
        sys.exit(f"billed {account['cost_micro']} in {account['batches_created']} batches, filed {filed} in {batches}")
    return f"billed ${filed / 1e6:.4f} in {batches} batches, all of it filed once"


@contextmanager
def started(
    command: list[str], environment: Mapping[str, str], stdout: int | None = None
) -> Generator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdout=stdout)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_up(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


def do(click: Callable[[], None], *, until_seen: Callable[[], Any]) -> None:
    """Click, and again when nothing comes of it: on SQLite Prefect refuses what meets another of its writes."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        click()
        if seen(until_seen, CLICK_SECONDS):
            return
        sys.stdout.write("a click was refused, so: once more\n")
    sys.exit("clicks are refused")


def until(look: Callable[[], Any]) -> Any:
    """What `look` finds, once it finds anything."""
    return seen(look, PATIENCE_SECONDS) or sys.exit("it takes too long")


def seen(look: Callable[[], Any], seconds: float) -> Any:
    """What `look` finds in this time."""
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(1)
    return found


if __name__ == "__main__":
    main()

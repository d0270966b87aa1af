"""`make pictures`: run the companies job on the emulator and a Prefect server, and photograph what it leaves.

Writes docs/pictures/*.png. Needs Chromium; everything else is on this machine and in a folder that is deleted.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import yaml
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
START_SECONDS = 120.0
UI_SETTLES_MS = 8000
STRICT = """- type: expect_column_values_to_be_between
  kwargs: {column: coverage, min_value: 0.999}
  severity: critical
"""
FAULTS = "- rows: {share: 0.04, attempts: 1}\n  result: {errored: api_error}\n"


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here: `apt-get install chromium`")
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        (home / "faults.yaml").write_text(FAULTS)
        api = stack.enter_context(prefect_server(home))
        claude = stack.enter_context(emulator(home))
        report = run(home, api, claude)
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=chromium, args=FLAGS)
        photograph_report(browser, report)
        photograph_prefect(browser, api)
        photograph_hold(browser, home, api, claude)
        browser.close()
    for picture in sorted(PICTURES.glob("*.png")):
        sys.stdout.write(f"{picture.relative_to(ROOT)}  {picture.stat().st_size / 1000:.0f} KB\n")


@contextmanager
def prefect_server(home: Path) -> Generator[str]:
    """A Prefect server that keeps nothing. Gives its API's URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/api"
    own = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_SERVER_UI_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    environment = {**os.environ, **own}
    with ended(subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)):
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            try:
                if httpx.get(f"{url}/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield url


@contextmanager
def emulator(home: Path) -> Generator[str]:
    """A stand-in for the Claude API whose batches take a while, and some of whose rows fail. Gives its URL."""
    options = ["--port", "0", "--batch-seconds", "2..6", "--faults", str(home / "faults.yaml")]
    command = [sys.executable, "-m", "emulator", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with ended(process):
        assert process.stdout
        yield process.stdout.readline().rpartition(" ")[2].strip()


@contextmanager
def ended(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> Generator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def environment(home: Path, api: str, claude: str) -> dict[str, str]:
    own = {"ROWTIDE_HOME": str(home / "rowtide"), "PREFECT_API_URL": api, "PREFECT_HOME": str(home / "prefect")}
    return {**os.environ, **own, "ANTHROPIC_API_KEY": "pictures", "ANTHROPIC_BASE_URL": claude, "PYTHONPATH": str(ROOT)}


def run(home: Path, api: str, claude: str) -> Path:
    """The companies job. Returns the page it leaves."""
    command = [sys.executable, "-m", "cli", "run", "jobs/companies", "--limit", "300", "--lane", "batch"]
    subprocess.run(command, cwd=ROOT, env=environment(home, api, claude), check=True, stdout=sys.stderr)
    (report,) = (home / "rowtide" / "reports").glob("*.html")
    return report


def photograph_report(browser: Browser, report: Path) -> None:
    for name, width, height in (("report-light", 1180, 1560), ("report-dark", 1180, 1560), ("report-phone", 390, 1700)):
        scheme = "dark" if name == "report-dark" else "light"
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        page = context.new_page()
        page.goto(report.as_uri())
        page.screenshot(path=PICTURES / f"{name}.png")
        context.close()


def photograph_prefect(browser: Browser, api: str) -> None:
    """The run's page in Prefect's UI: its tasks over time, and its artifacts."""
    (flow_run,) = httpx.post(f"{api}/flow_runs/filter", json={}).json()
    address = f"{api.removesuffix('/api')}/runs/flow-run/{flow_run['id']}"
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    for name, tab, height in (("prefect-run", "Task Runs", 900), ("prefect-artifacts", "Artifacts", 1500)):
        page.set_viewport_size({"width": 1280, "height": height})
        page.get_by_text(tab, exact=True).first.click()
        page.wait_for_timeout(UI_SETTLES_MS)  # it draws as its own calls come in, and says nothing when it is through
        page.screenshot(path=PICTURES / f"{name}.png")
    context.close()


def photograph_hold(browser: Browser, home: Path, api: str, claude: str) -> None:
    """A run that its load gate holds, begun as from the UI; the form is filled in and the run goes on."""
    job = home / "companies"
    shutil.copytree(ROOT / "jobs" / "companies", job)
    (job / "gates" / "load.yaml").write_text(STRICT)
    spec = yaml.safe_load((job / "job.yaml").read_text())
    (job / "job.yaml").write_text(yaml.safe_dump({**spec, "gates": {**spec["gates"], "load": "gates/load.yaml"}}))
    command = [sys.executable, "-c", "from flows.run_job import run_job; run_job.serve(name='manual')"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ended(subprocess.Popen(command, cwd=ROOT, env=environment(home, api, claude), **quiet)):
        deployment = until(lambda: httpx.post(f"{api}/deployments/filter", json={}).json())[0]
        asked = {"parameters": {"job": str(job), "limit": 60, "lane": "batch"}, "state": {"type": "SCHEDULED"}}
        flow_run = httpx.post(f"{api}/deployments/{deployment['id']}/create_flow_run", json=asked).json()
        until(lambda: name_of_state(api, flow_run) == "Suspended")
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(f"{api.removesuffix('/api')}/runs/flow-run/{flow_run['id']}")
        page.get_by_role("button", name="Resume").first.click(timeout=UI_SETTLES_MS * 3)
        page.locator(".p-select-button__control").last.click(timeout=UI_SETTLES_MS)
        page.locator(".p-select-option", has_text="approve").click()
        page.locator(".p-textarea__control").first.fill("a small first run")
        page.screenshot(path=PICTURES / "prefect-hold.png")
        page.get_by_role("button", name="Submit").click()
        until(lambda: name_of_state(api, flow_run) == "Completed")
        page.context.close()


def name_of_state(api: str, flow_run: dict[str, Any]) -> str:
    name = httpx.get(f"{api}/flow_runs/{flow_run['id']}").json()["state"]["name"]
    if name in ("Failed", "Crashed"):
        sys.exit(f"the run ended as {name}")
    return name


def until(look: Callable[[], Any]) -> Any:
    """What `look` finds, once it finds anything."""
    end = time.monotonic() + START_SECONDS
    while not (found := look()):
        if time.monotonic() > end:
            sys.exit("it takes too long")
        time.sleep(1)
    return found


if __name__ == "__main__":
    main()

"""`make pictures`: run the companies job on the emulator and a Prefect server, and photograph what it leaves.

Writes docs/pictures/*.png. Needs Chromium; everything else is on this machine and in a folder that is deleted.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
START_SECONDS = 120.0
UI_SETTLES_MS = 8000
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


def run(home: Path, api: str, claude: str) -> Path:
    """The companies job. Returns the page it leaves."""
    own = {"ROWTIDE_HOME": str(home / "rowtide"), "PREFECT_API_URL": api, "PREFECT_HOME": str(home / "prefect")}
    claude_own = {"ANTHROPIC_API_KEY": "pictures", "ANTHROPIC_BASE_URL": claude}
    command = [sys.executable, "-m", "cli", "run", "jobs/companies", "--limit", "300", "--lane", "batch"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **own, **claude_own}, check=True, stdout=sys.stderr)
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


if __name__ == "__main__":
    main()

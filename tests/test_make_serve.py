"""`make serve` from outside: who gets in, what comes back by itself, and what is left when it has ended.

All of it is started once, for real; each test leaves it running.
"""

import base64
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import psutil
import pytest
from conftest import make_job, wait_until
from outside import ROOT, rowtide
from playwright.sync_api import Page
from test_report_page import chromium, needs_chromium

pytestmark = pytest.mark.slow

PARTS = {"server": "prefect server start", "worker": "prefect worker start", "receiver": "cli serve"}
REFUSED = re.compile("Unauthorized|CSRF token")
HOSTILE = """
const api = location.hash.slice(1), order = '{"name": "owned"}';
const ask = (path, type, body) => fetch(api + path, {
  method: body ? "POST" : "GET", headers: body ? {"content-type": type} : {}, body: body, credentials: "include",
}).then(found => found.text(), error => "" + error);
Promise.all([
  ask("/flows/", "text/plain", order),
  ask("/flows/", "application/json", order),
  ask("/flows/filter", "application/json", "{}"),
  ask("/csrf-token?client=evil"),
]).then(told => { document.title = JSON.stringify(told); });
"""


# A browser sends a form anywhere, without asking, and shows its reader what is answered.
FORM = """
const form = document.body.appendChild(document.createElement("form"));
const field = form.appendChild(document.createElement("input"));
[field.name, field.value] = ['{"name": "owned", "labels": {"a": "', '"}}'];
[form.method, form.enctype, form.action] = ["post", "text/plain", location.hash.slice(1) + "/flows/"];
form.submit();
"""


@dataclass
class Service:
    """What was started, and where it is."""

    process: "subprocess.Popen[str]"
    home: Path
    said: Path
    api: str
    receiver: str

    @property
    def login(self) -> tuple[str, str]:
        name, _, word = next(self.home.rglob("prefect.login")).read_text().partition(":")
        return name, word

    def parts(self) -> dict[str, psutil.Process]:
        """The programs themselves, without their guardians."""
        found: dict[str, psutil.Process] = {}
        for each in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):  # it has just gone
                words = " ".join(each.cmdline())
                found |= {name: each for name, mark in PARTS.items() if mark in words and "guardian.py" not in words}
        return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    with serving(tmp_path_factory.mktemp("service")) as found:
        yield found


@contextmanager
def serving(folder: Path, **environment: str) -> Generator[Service]:
    """`make serve`, under another person's umask, once it says that it is ready."""
    port, receiver_port = free_port(), free_port()
    others = ("PREFECT", "ROWTIDE", "ANTHROPIC")
    known = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    own = {"ROWTIDE_HOME": str(folder / "home"), "ROWTIDE_PREFECT_PORT": str(port)}
    own |= {"ROWTIDE_RECEIVER_PORT": str(receiver_port)}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.serve"],
            cwd=ROOT,
            env={**known, **own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            text=True,
            start_new_session=True,
            umask=0o022,
        )
    found = Service(
        process, folder / "home", folder / "said", f"http://127.0.0.1:{port}/api", f"http://127.0.0.1:{receiver_port}"
    )

    def is_up() -> bool:
        assert process.poll() is None, (folder / "said").read_text()
        return "Ready." in (folder / "said").read_text()

    try:
        wait_until(is_up)
        yield found
    finally:
        process.kill()


def test_prefect_takes_orders_from_nobody_without_its_login(service: Service) -> None:
    new = {"name": "owned"}
    assert httpx2.post(f"{service.api}/flows/filter", json={}).status_code in (401, 403)
    assert httpx2.get(f"{service.api}/admin/settings").status_code == 401
    for wrong in (("rowtide", "guess"), ("", "")):
        assert httpx2.get(f"{service.api}/admin/settings", auth=wrong).status_code == 401
    # Even with the login, a form that another page sends has no token.
    assert httpx2.post(f"{service.api}/flows/", json=new, auth=service.login).status_code == 403
    assert httpx2.get(f"{service.api}/admin/version", auth=service.login).status_code == 200
    # A name that points to this machine is not this machine's name: no login of ours is sent there, and none is asked.
    evil = {"host": "rebound.example", "origin": "http://rebound.example"}
    assert httpx2.post(f"{service.api}/flows/", json=new, headers=evil).status_code in (401, 403)


def test_no_page_of_another_origin_may_read_what_prefect_says(service: Service) -> None:
    evil, own = "http://evil.example", service.api.removesuffix("/api")
    for origin, allowed in ((evil, None), (own, own)):
        asked = {"origin": origin, "access-control-request-method": "POST"}
        told = httpx2.request("OPTIONS", f"{service.api}/flows/", headers=asked)
        assert told.headers.get("access-control-allow-origin") == allowed


@needs_chromium
@pytest.mark.parametrize("carries", ["nothing", "a cookie", "the login"])
def test_a_page_that_an_operator_opens_can_neither_order_nor_read(service: Service, carries: str) -> None:
    """Prefect knows no cookie; a browser that lends each of its requests the very login is the worst there can be."""
    with hostile_page() as url, chromium() as browser:
        context = browser.new_context()
        word = ":".join(service.login)
        if carries == "a cookie":
            names = ("prefect-password", "Authorization", "session")
            context.add_cookies([{"name": name, "value": word, "url": service.api} for name in names])
        if carries == "the login":
            context.set_extra_http_headers({"authorization": f"Basic {base64.b64encode(word.encode()).decode()}"})
        *told, answered = orders_of(context.new_page(), url, service.api)
    assert told == ["TypeError: Failed to fetch"] * 4
    assert REFUSED.search(answered), answered
    assert flows_called_owned(service) == []


@needs_chromium
def test_a_name_that_points_to_this_machine_gives_a_page_no_login(service: Service) -> None:
    """DNS rebinding: to the browser, page and server are of one origin, so the page reads what it is told: 401."""
    with chromium("--host-resolver-rules=MAP rebound.example 127.0.0.1") as browser:
        page = browser.new_page()
        own = service.api.removesuffix("/api")
        page.goto(own)
        page.evaluate("word => localStorage.setItem('prefect-password', btoa(word))", ":".join(service.login))
        rebound = own.replace("127.0.0.1", "rebound.example")
        told: list[str] = []
        for script, ends in ((HOSTILE, "document.title != ''"), (FORM, "location.pathname == '/api/flows/'")):
            page.goto(f"{rebound}/api/ready#{rebound}/api")  # what stands there says nothing and does nothing
            page.evaluate(script)
            page.wait_for_function(ends)
            told += json.loads(page.title()) if script == HOSTILE else [page.inner_text("body")]
    assert len(told) == 5
    assert all(REFUSED.search(each) for each in told), told
    assert flows_called_owned(service) == []


def orders_of(page: Page, url: str, api: str) -> list[str]:
    """What the hostile page is told, order by order; last, what the reader sees whose browser sent its form."""
    page.goto(f"{url}#{api}")
    page.wait_for_function("document.title != ''")
    told: list[str] = json.loads(page.title())
    page.goto(f"{url}form#{api}")
    page.wait_for_url(f"{api}/flows/")
    return [*told, page.inner_text("body")]


def flows_called_owned(service: Service) -> list[Any]:
    return ask(service, "/flows/filter", {"flows": {"name": {"any_": ["owned"]}}})


def test_only_its_owner_can_read_what_is_under_the_home(service: Service) -> None:
    open_to_others = [
        f"{oct(each.stat().st_mode)} {each}"
        for each in [service.home, *service.home.rglob("*")]
        if stat.S_IMODE(each.stat().st_mode) & 0o077
    ]
    assert open_to_others == []


def test_a_run_from_the_same_home_finds_the_server_and_its_login(service: Service, tmp_path: Path) -> None:
    port = service.api.rpartition(":")[2].removesuffix("/api")
    known = {"ROWTIDE_HOME": str(service.home), "ROWTIDE_PREFECT_PORT": port}
    nobody = dict.fromkeys(("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "PREFECT_API_URL"))
    done = rowtide("run", make_job(tmp_path / "job"), "--json", environment={**nobody, **known})
    assert (done.status, done.summary["loaded"]) == (0, 6), done.err
    assert f"Prefect: {service.api}" in done.err
    assert len(ask(service, "/flow_runs/filter", {"flows": {"name": {"any_": ["run_job"]}}})) == 1


def test_each_part_comes_back_by_itself_and_one_stop_ends_all(service: Service) -> None:
    before = service.parts()
    assert before.keys() == {"server", "worker", "receiver"}
    for part in before.values():
        part.kill()
    wait_until(lambda: service.parts().keys() == before.keys())
    wait_until(lambda: answers(f"{service.api}/ready") and answers(f"{service.receiver}/health"))
    assert not {each.pid for each in service.parts().values()} & {each.pid for each in before.values()}
    below = psutil.Process(service.process.pid).children(recursive=True)
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(300) == 0
    assert [each for each in below if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).is_success
    except httpx2.HTTPError:
        return False


def ask(service: Service, path: str, body: object) -> Any:
    """What the server says to somebody with its login."""
    with httpx2.Client(base_url=service.api, auth=service.login) as client:
        token = client.get("/csrf-token", params={"client": "test"}).json()["token"]
        headers = {"prefect-csrf-token": token, "prefect-csrf-client": "test"}
        return client.post(path, json=body, headers=headers).raise_for_status().json()


def hostile_html(path: str) -> str:
    return f"<title></title><body><script>{FORM if path.endswith('form') else HOSTILE}</script>"


class hostile_page:
    """A page of another origin that orders and reads in the name of whoever opens it. Gives its URL."""

    def __enter__(self) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(hostile_html(self.path).encode())

            def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # quiet
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

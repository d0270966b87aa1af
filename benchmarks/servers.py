"""What a benchmark runs against: an emulator of the API, Prefect's server, and PostgreSQL. None of them is measured."""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2

ROOT = Path(__file__).parent.parent
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "ROWTIDE_PAGE": "0",
}
SECONDS_TO_COME_UP = 120
SECONDS_TO_SETTLE = 6  # Prefect's server takes a task run's events in after the client has ended


@dataclass
class Ground:
    """A folder, the servers, and the environment in which a client finds them."""

    place: Path
    environment: dict[str, str]
    stack: ExitStack
    _postgres: list[Path] = field(default_factory=list[Path])
    """Its socket's folder, once it is started."""

    def database(self, name: str) -> str:
        """A new, empty database. PostgreSQL is started for the first one."""
        if not self._postgres:
            self._postgres.append(self.stack.enter_context(postgres().server()))
        return self.stack.enter_context(postgres().database(self._postgres[0], name))

    def account(self, api_key: str) -> dict[str, Any]:
        """What the emulator billed this key, and how many batches it made."""
        return self._call("GET", f"/_emulator/ledger?api_key={api_key}")["account"]

    @contextlib.contextmanager
    def faults(self, rules: Sequence[dict[str, Any]]) -> Generator[None]:
        """Let these things go wrong for as long as the block lasts."""
        if rules:
            self._call("PUT", "/_emulator/faults", list(rules))
        try:
            yield
        finally:
            if rules:
                self._call("DELETE", "/_emulator/faults")

    def task_runs(self, flow_runs: Sequence[str]) -> int:
        """How many task runs Prefect was told of, once its events have settled."""
        wanted = {"flow_runs": {"name": {"any_": list(flow_runs)}}}
        count, before = 0, -1
        while count != before or count == 0:
            time.sleep(SECONDS_TO_SETTLE)
            before = count
            answer = httpx2.post(f"{self.environment['PREFECT_API_URL']}/task_runs/count", json=wanted, timeout=60)
            count = int(answer.raise_for_status().json())
        return count

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = httpx2.request(method, self.environment["ANTHROPIC_BASE_URL"] + path, json=body, timeout=600)
        return answer.raise_for_status().json()


@contextlib.contextmanager
def ground(place: Path) -> Generator[Ground]:
    """Servers for as long as the block lasts."""
    with ExitStack() as stack:
        yield Ground(place, stack.enter_context(servers(place)), stack)


@contextlib.contextmanager
def servers(place: Path) -> Generator[dict[str, str]]:
    """An emulator and a Prefect server, for as long as the block lasts. Gives a client's environment."""
    environment = {**os.environ, **QUIET, "PREFECT_HOME": str(place / "prefect"), "ANTHROPIC_API_KEY": "bench"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    emulator = [sys.executable, "-m", "emulator", "--port", "0", "--data", str(place / "emulator")]
    port = _free_port()
    prefect = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    nothing = subprocess.DEVNULL
    with (
        subprocess.Popen(emulator, stdout=subprocess.PIPE, text=True, env=environment) as api,
        subprocess.Popen(prefect, stdout=nothing, stderr=nothing, env=environment) as server,
    ):
        try:
            assert api.stdout
            environment["ANTHROPIC_BASE_URL"] = api.stdout.readline().rpartition(" ")[2].strip()
            environment["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
            _until_healthy(environment["PREFECT_API_URL"])
            yield environment
        finally:
            api.terminate()
            server.terminate()


def postgres() -> ModuleType:
    """The tests' own PostgreSQL: it lies beside the tests, which are no package."""
    if found := sys.modules.get("postgres"):
        return found
    spec = importlib.util.spec_from_file_location("postgres", ROOT / "tests" / "postgres.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["postgres"] = module
    return module


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _until_healthy(url: str) -> None:
    until = time.monotonic() + SECONDS_TO_COME_UP
    while time.monotonic() < until:
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(f"{url}/health").status_code == 200:
                return
        time.sleep(0.5)
    raise SystemExit("Prefect's server did not come up")

"""Run Prefect's flow from a terminal, on a named server or one started for this run."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
from prefect.exceptions import PrefectException, TerminationSignal
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, get_current_settings, temporary_settings

from cli.prefect_database import database_variable_in, prefect_database_settings
from cli.prefect_server import PrefectFailed, find_login
from flows.run_job import run_job
from rowtide import process_guardian
from rowtide.errors import RowtideError, UserMistake, WorldError

START_SECONDS = 180.0
LOOK_SECONDS = 0.2

# As Prefect starts the server that it calls ephemeral; but that one outlives a process that is killed hard.
SERVER = ["-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1"]
OPTIONS = ["--log-level", "error", "--lifespan", "on"]
# What Prefect's client and its engine raise when a server does not answer as it should.
FAILURES = (httpx.HTTPError, PrefectException, RuntimeError, OSError)
SETTINGS = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


@contextmanager
def flow_on_server(url: str | None) -> Generator[Callable[..., Awaitable[dict[str, Any]]]]:
    """Prefect's flow on the server at `url`; None: on a server that is started here and ends with this process.

    What it raises because of Prefect is PrefectFailed. SIGTERM is what it is without Prefect.
    """
    with ExitStack() as stack:
        at, known = (url, find_login()) if url else stack.enter_context(_server())
        stack.enter_context(temporary_settings({PREFECT_API_URL: at, PREFECT_API_AUTH_STRING: known}))
        try:
            yield _flow
        except TerminationSignal as terminated:  # before the flow was running
            signal.raise_signal(terminated.signal)


async def _flow(**parameters: Any) -> dict[str, Any]:
    ours = signal.getsignal(signal.SIGTERM)

    def keep_ours(flow: Any, flow_run: Any, state: Any) -> None:  # as Prefect calls it
        """Prefect's handler raises wherever the process is, also in what only writes down what was raised there."""
        signal.signal(signal.SIGTERM, ours)

    try:
        return await run_job.with_options(on_running=[keep_ours])(**parameters)  # pyright: ignore[reportGeneralTypeIssues] # its overloads hide it
    except FAILURES as error:
        first = str(error).strip().partition("\n")[0][:300]
        raise PrefectFailed(f"Prefect's server failed: {type(error).__name__}: {first}") from error


@contextmanager
def _server() -> Generator[tuple[str, str]]:
    """A server of Prefect's for as long as we live, however that ends. Gives its URL, and its login, which nobody else
    knows: as Prefect comes, a page that a browser has open could give it orders. Raises WorldError."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    known = f"rowtide:{secrets.token_urlsafe(24)}"
    closed = {
        "PREFECT_SERVER_API_AUTH_STRING": known,
        "PREFECT_API_AUTH_STRING": known,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
    }
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    database = prefect_database_settings(os.environ) or prefect_database_settings(settings)
    process = subprocess.Popen(
        process_guardian.guarded_command(sys.executable, *SERVER, "--port", str(port), *OPTIONS),
        env={**os.environ, **SETTINGS, **settings, **closed, **database},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us alone: the run still has something to tell it
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise _not_started()
            time.sleep(LOOK_SECONDS)
        yield url, known
    finally:
        process.terminate()
        process.wait()


def _not_started() -> RowtideError:
    if name := database_variable_in(os.environ):
        words = "Prefect's server did not start with this database: set it right, or run without Prefect: --no-prefect"
        return UserMistake(words, key=name)
    return WorldError("Prefect's server did not start; run without it: --no-prefect")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False

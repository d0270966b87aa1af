"""Everything on one machine: Prefect's server, a worker, the blocks, the deployments, the receiver of webhooks.

`make serve` runs it. Each part is started again when it ends; one Ctrl-C ends all of them and all they have started.
"""

import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cli.home_folders import home_folder, rehearse_without_key
from cli.output import err, print_error
from cli.prefect_database import prefect_database_settings
from cli.prefect_server import LOGIN_FILE
from cli.terminal_run import announce_rehearsal, claude_or_emulator
from deploy.parts import Part
from deploy.prefect_server import POOL, SETTINGS, has_worker, is_ready, receives, security
from rowtide.errors import UserMistake

START_SECONDS = 180.0
SAY_SECONDS = 10.0
LOOK_SECONDS = 0.5
WHERE = "ROWTIDE_ON_CALL_URL"  # deploy/on_call.py, which imports Prefect: that takes seconds
SECRET_FILE = "webhook.secret"

app = App(name="python -m deploy.serve", help_format="plaintext")


@app.default
def main(
    *,
    port: Annotated[int, Parameter(env_var="ROWTIDE_PREFECT_PORT")] = 4200,
    receiver_port: Annotated[int, Parameter(env_var="ROWTIDE_RECEIVER_PORT")] = 8788,
) -> int:
    """Start all of Rowtide on this machine, until interrupted: Prefect's server, a worker, the receiver of webhooks.

    Without ANTHROPIC_API_KEY the emulator answers, in `rehearsal` under ROWTIDE_HOME. Only its owner can read what is
    under ROWTIDE_HOME.

    Parameters
    ----------
    port
        The port of Prefect's server and its UI.
    receiver_port
        The port of the receiver of webhooks.
    """
    for name, taken in (("ROWTIDE_PREFECT_PORT", port), ("ROWTIDE_RECEIVER_PORT", receiver_port)):
        if _is_taken(taken):
            print_error(f"port {taken} is taken: name another, make serve {name}={taken + 100}")
            return 2
    try:
        os.environ |= prefect_database_settings(os.environ)
    except UserMistake as mistake:
        print_error(str(mistake))
        return 2
    rehearse_without_key()
    announce_rehearsal()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager stops it as a person would
    os.umask(0o077)
    logs = home_folder() / "logs"
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    with claude_or_emulator():
        try:
            return _serve(port, receiver_port, logs)
        except KeyboardInterrupt:
            err.print("stopped; runs go on where they were when it is started again")
            return 0


def _serve(port: int, receiver_port: int, logs: Path) -> int:
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        "PREFECT_HOME": str(home_folder() / "prefect"),  # nothing here touches another Prefect of the same user
        **os.environ,
        **SETTINGS,
        **security(home_folder(), port),
        "PREFECT_API_URL": url,
        "ROWTIDE_HOME": str(home_folder()),
        "ROWTIDE_WEBHOOK_SECRETS": _webhook_secrets(),
    }
    began = time.monotonic()
    python, login = [sys.executable, "-m"], environment["PREFECT_API_AUTH_STRING"]
    receive = [*python, "cli", "serve", "--port", str(receiver_port)]
    start_server = [*python, "prefect", "server", "start", "--port", str(port)]
    receiver_url = f"http://127.0.0.1:{receiver_port}"
    with _kept_alive() as parts, _telling(environment, logs / "deployments.log") as telling:
        err.print("starting: server, receiver, worker, deployments; 20 seconds, a minute on a busy machine")
        parts["server"] = Part("server", start_server, environment, logs, lambda: is_ready(url))
        parts["receiver"] = Part("receiver", receive, environment, logs, lambda: receives(receiver_url), "receiving on")
        is_there = partial(has_worker, url, POOL, login)
        parts["worker"] = Part("worker", [*python, "deploy.worker"], environment, logs, is_there, "started!")
        if not (_wait_for(parts, *parts) and _told(parts, telling, logs / "deployments.log")):
            return 1
        _say_where(port, receiver_port, logs, began)
        while True:
            _look(parts)


@contextmanager
def _kept_alive() -> Generator[dict[str, Part]]:
    """Parts that are ended, the last one first to be told, with all they have started."""
    parts: dict[str, Part] = {}
    try:
        yield parts
    finally:
        for part in reversed(parts.values()):
            part.stop()
        for part in reversed(parts.values()):
            part.wait()


def _look(parts: Mapping[str, Part]) -> None:
    for part in parts.values():
        if said := part.look():
            err.print(f"  {said}", markup=False)
    time.sleep(LOOK_SECONDS)


def _wait_for(parts: Mapping[str, Part], *names: str) -> bool:
    """Until these are ready; says now and then that it waits. False when that takes too long."""
    began = said = time.monotonic()
    while waits := [parts[name] for name in names if not parts[name].is_ready]:
        now = time.monotonic()
        if now > began + START_SECONDS:
            print_error(
                "\n".join(f"{each.name} is not ready after {each.seconds:.0f} s: {each.log_file}" for each in waits)
            )
            return False
        if now > said + SAY_SECONDS:
            said = now
            err.print(f"  {now - began:.0f} s: waiting for {', '.join(each.name for each in waits)}")
        _look(parts)
    return True


@contextmanager
def _telling(environment: Mapping[str, str], log: Path) -> Generator["subprocess.Popen[bytes]"]:
    """What tells Prefect of deployments: it loads while the server does. Ended with us, should it still be at work."""
    with log.open("wb") as said:
        command = [sys.executable, "-m", "deploy.deployments"]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _told(parts: Mapping[str, Part], telling: "subprocess.Popen[bytes]", log: Path) -> bool:
    """Wait until Prefect knows of the deployments. Its last words are said when that fails."""
    until = time.monotonic() + START_SECONDS
    while telling.poll() is None and time.monotonic() < until:
        _look(parts)
    if telling.returncode != 0:
        print_error(f"Prefect was not told of the deployments ({log}):\n{log.read_text(errors='replace')[-2000:]}")
    return telling.returncode == 0


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _webhook_secrets() -> str:
    """As the environment says; else a secret of this place's own, made once, that its owner alone can read."""
    if said := os.environ.get("ROWTIDE_WEBHOOK_SECRETS"):
        return said
    file = home_folder() / SECRET_FILE
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}")
    return file.read_text()


def _say_where(port: int, receiver_port: int, logs: Path, began: float) -> None:
    is_told = bool(os.environ.get(WHERE))
    deployments = "manual, nightly, evaluate, flush-inbox, resume-runs"
    login = home_folder() / LOGIN_FILE
    err.print(f"Prefect     http://127.0.0.1:{port}  (deployments: {deployments})", markup=False)
    err.print(f"            it asks for what is in {login}", markup=False)
    err.print("a run       there: Deployments → manual → Run; from a terminal:")
    err.print(f"            export PREFECT_API_URL=http://127.0.0.1:{port}/api", markup=False)
    err.print(f"            export PREFECT_API_AUTH_STRING=$(cat {login})", markup=False)
    err.print("            rowtide run JOB")
    err.print(f"webhooks    http://127.0.0.1:{receiver_port}", markup=False)
    if not os.environ.get("ROWTIDE_WEBHOOK_SECRETS"):
        err.print(f"            signed with the secret in {home_folder() / SECRET_FILE}", markup=False)
    err.print(
        "on call     " + ("is told" if is_told else f"nobody is told: {WHERE}=https://… says where"), markup=False
    )
    err.print(f"ledger      {home_folder()}", markup=False)
    err.print(f"logs        {logs}", markup=False)
    seconds = time.monotonic() - began
    err.print(
        f"Ready. It took {seconds:.0f} s. Ctrl-C stops all of it; runs go on where they were when it is started again"
    )


if __name__ == "__main__":
    app()

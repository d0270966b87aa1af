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
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from cli.homes import home, rehearse_without_key
from cli.prefect_server import LOGIN_FILE
from cli.pump import claude_server, say_rehearsal
from cli.say import complain, err
from deploy.parts import Part
from deploy.prefect_server import SETTINGS, is_ready, security

START_SECONDS = 180.0
LOOK_SECONDS = 0.5
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
            complain(f"port {taken} is taken: name another, make serve {name}={taken + 100}")
            return 2
    rehearse_without_key()
    say_rehearsal()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager stops it as a person would
    os.umask(0o077)
    logs = home() / "logs"
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    with claude_server():
        try:
            return _serve(port, receiver_port, logs)
        except KeyboardInterrupt:
            err.print("stopped; runs go on where they were when it is started again")
            return 0


def _serve(port: int, receiver_port: int, logs: Path) -> int:
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        "PREFECT_HOME": str(home() / "prefect"),  # nothing here touches another Prefect of the same user
        **os.environ,
        **SETTINGS,
        **security(home(), port),
        "PREFECT_API_URL": url,
        "ROWTIDE_HOME": str(home()),
        "ROWTIDE_WEBHOOK_SECRETS": _webhook_secrets(),
    }
    prefect = [sys.executable, "-m", "prefect"]
    receive = [sys.executable, "-m", "cli", "serve", "--port", str(receiver_port)]
    with _kept_alive() as parts:
        err.print("starting: Prefect's server, the receiver of webhooks; about ten seconds")
        parts["receiver"] = Part("receiver", receive, environment, logs, "receiving on")
        start_server = [*prefect, "server", "start", "--port", str(port)]
        parts["server"] = Part("server", start_server, environment, logs, lambda: is_ready(url))
        if not _wait_for(parts, "server"):
            complain(f"Prefect's server is not ready after {START_SECONDS:.0f} s; see {logs / 'server.log'}")
            return 1
        err.print("starting: a worker; telling Prefect of blocks and deployments; about twenty seconds")
        start_worker = [sys.executable, "-m", "deploy.worker"]
        parts["worker"] = Part("worker", start_worker, environment, logs, "started!")
        if not (_prefect(environment, "block", "register", "-m", "blocks") and _wait_for(parts, "worker")):
            return 1
        if not (_prefect(environment, "--no-prompt", "deploy", "--all") and _wait_for(parts, "receiver")):
            return 1
        _say_where(port, receiver_port, logs)
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


def _wait_for(parts: Mapping[str, Part], name: str) -> bool:
    until = time.monotonic() + START_SECONDS
    while not parts[name].is_ready and time.monotonic() < until:
        _look(parts)
    return parts[name].is_ready


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _prefect(environment: Mapping[str, str], *words: str) -> bool:
    """One command of Prefect's, said only when it fails."""
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        complain(f"`prefect {' '.join(words)}` failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def _webhook_secrets() -> str:
    """As the environment says; else a secret of this place's own, made once, that its owner alone can read."""
    if said := os.environ.get("ROWTIDE_WEBHOOK_SECRETS"):
        return said
    file = home() / SECRET_FILE
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}")
    return file.read_text()


def _say_where(port: int, receiver_port: int, logs: Path) -> None:
    deployments = "manual, nightly, flush-inbox, resume-runs"
    login = home() / LOGIN_FILE
    err.print(f"Prefect     http://127.0.0.1:{port}  (deployments: {deployments})", markup=False)
    err.print(f"            it asks for what is in {login}", markup=False)
    err.print("a run       there: Deployments → manual → Run; from a terminal:")
    err.print(f"            export PREFECT_API_URL=http://127.0.0.1:{port}/api", markup=False)
    err.print(f"            export PREFECT_API_AUTH_STRING=$(cat {login})", markup=False)
    err.print("            rowtide run JOB")
    err.print(f"webhooks    http://127.0.0.1:{receiver_port}", markup=False)
    if not os.environ.get("ROWTIDE_WEBHOOK_SECRETS"):
        err.print(f"            signed with the secret in {home() / SECRET_FILE}", markup=False)
    err.print(f"ledger      {home()}", markup=False)
    err.print(f"logs        {logs}", markup=False)
    err.print("Ready. Ctrl-C stops all of it; runs go on where they were when it is started again")


if __name__ == "__main__":
    app()

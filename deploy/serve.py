"""Everything on one machine: Prefect's server, a worker, the blocks, the deployments, the receiver of webhooks.

`make serve` runs it. It says where everything is, and ends all of it when it is interrupted or something of it ends.
"""

import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import httpx
from cyclopts import App, Parameter

from cli.homes import home, rehearse_without_key
from cli.pump import claude_server, say_rehearsal
from cli.say import complain, err

START_SECONDS = 180.0
STOP_SECONDS = 20.0
LOOK_SECONDS = 1.0
POOL = "rowtide"
SECRET_FILE = "webhook.secret"

# Prefect's server as it comes records 50 task runs a second; so, three times as many. It forgets what nobody reads.
SERVER = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TRIGGERS_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P2D",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


app = App(name="python -m deploy.serve", help_format="plaintext")


@app.default
def main(
    *,
    port: Annotated[int, Parameter(env_var="ROWTIDE_PREFECT_PORT")] = 4200,
    receiver_port: Annotated[int, Parameter(env_var="ROWTIDE_RECEIVER_PORT")] = 8788,
) -> int:
    """Start all of Rowtide on this machine, until interrupted: Prefect's server, a worker, the receiver of webhooks.

    Without ANTHROPIC_API_KEY the emulator answers, in `rehearsal` under ROWTIDE_HOME. All files are under ROWTIDE_HOME.

    Parameters
    ----------
    port
        The port of Prefect's server and its UI.
    receiver_port
        The port of the receiver of webhooks.
    """
    if _is_taken(port):
        complain(f"port {port} is taken: name another, make serve ROWTIDE_PREFECT_PORT=4300")
        return 2
    rehearse_without_key()
    say_rehearsal()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager stops it as a person would
    logs = home() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with claude_server(), ExitStack() as stack:
        # A home of its own: nothing here touches another Prefect of the same user.
        url = f"http://127.0.0.1:{port}/api"
        environment = {"PREFECT_HOME": str(home() / "prefect"), **os.environ, **SERVER, "PREFECT_API_URL": url}
        environment["ROWTIDE_HOME"] = str(home())
        parts = {"server": _start(stack, logs, environment, "server", "server", "start", "--port", str(port))}
        err.print("starting: Prefect's server, about ten seconds")
        try:
            _wait_until_up(url, parts["server"])
            _prefect(environment, "work-pool", "create", POOL, "--type", "process", "--overwrite")
            _prefect(environment, "block", "register", "-m", "blocks")
            _prefect(environment, "--no-prompt", "deploy", "--all")
            parts["worker"] = _start(stack, logs, environment, "worker", "worker", "start", "--pool", POOL)
            environment["ROWTIDE_WEBHOOK_SECRETS"] = _webhook_secrets()
            command = [sys.executable, "-m", "cli", "serve", "--port", str(receiver_port)]
            parts["receiver"] = _part(stack, logs, environment, "receiver", command)
            _say_where(port, receiver_port, logs)
            return _wait(parts, logs)
        except KeyboardInterrupt:
            err.print("stopping")
            return 0


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _start(stack: ExitStack, logs: Path, environment: Mapping[str, str], name: str, *words: str) -> Any:
    return _part(stack, logs, environment, name, [sys.executable, "-m", "prefect", *words])


def _part(stack: ExitStack, logs: Path, environment: Mapping[str, str], name: str, command: list[str]) -> Any:
    """A part that runs until we end, and says what it has to say in a file of its own."""
    log = stack.enter_context((logs / f"{name}.log").open("a"))
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    stack.callback(_stop, process)
    return process


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_up(url: str, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=LOOK_SECONDS).is_success:
                return
        except httpx.HTTPError:
            time.sleep(LOOK_SECONDS)
    complain("Prefect's server did not start; see logs/server.log under ROWTIDE_HOME")
    raise SystemExit(1)


def _prefect(environment: Mapping[str, str], *words: str) -> None:
    """One command of Prefect's, said only when it fails."""
    command = [sys.executable, "-m", "prefect", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        complain(f"`prefect {' '.join(words)}` failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        raise SystemExit(1)


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
    err.print(f"Prefect     http://127.0.0.1:{port}  (deployments: {deployments})", markup=False)
    err.print("a run       there: Deployments → manual → Run; from a terminal:")
    err.print(f"            PREFECT_API_URL=http://127.0.0.1:{port}/api rowtide run JOB")
    err.print(f"webhooks    http://127.0.0.1:{receiver_port}", markup=False)
    if not os.environ.get("ROWTIDE_WEBHOOK_SECRETS"):
        err.print(f"            signed with the secret in {home() / SECRET_FILE}", markup=False)
    err.print(f"ledger      {home()}", markup=False)
    err.print(f"logs        {logs}", markup=False)
    err.print("Ctrl-C stops all of it; runs go on where they were when it is started again")


def _wait(parts: Mapping[str, "subprocess.Popen[bytes]"], logs: Path) -> int:
    """Until a part ends, which none should."""
    while True:
        for name, process in parts.items():
            if process.poll() is not None:
                complain(f"the {name} ended with {process.returncode}; see {logs / name}.log")
                return 1
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    app()

"""`make serve` in a folder of its own, as a machine has it, and a sender that brings work to it."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import psutil
import yaml
from standardwebhooks import Webhook

from chaos.lives import SMALL, Home

ROOT = Path(__file__).parent.parent
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
PATIENCE_SECONDS = 10  # so that about half of the runs park once
RUN_ROWS = 8
RUN_EVERY = 40  # messages
INBOX = "inbox"
START_SECONDS = 240
SPARED = ("guardian.py", "deploy.serve", "orders.py")  # these must end by themselves when it is their time


class Service:
    """`make serve` in a folder of its own."""

    def __init__(self, folder: Path, api_url: str, watch_seconds: int | None) -> None:
        self.home = Home(folder / "home", api_url)
        self._folder = folder
        self._ports = _free_port(), _free_port()
        self.receiver = f"http://127.0.0.1:{self._ports[1]}"
        folder.mkdir(parents=True, exist_ok=True)
        _make_job(folder / "jobs" / INBOX, source={"inbox": ["message_id", "order_id", "message"]})
        plan = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        watch = next(each for each in plan["deployments"] if each["name"] == "resume-runs")
        if watch_seconds:
            watch["schedules"] = [{"slug": "often", "interval": watch_seconds}]
        self.watch_seconds = watch_seconds or 180
        (folder / "prefect.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))

    def start(self) -> None:
        """Start it; returns when it says that it is ready."""
        others = ("PREFECT", "ROWTIDE", "ANTHROPIC")
        known = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        port, receiver_port = map(str, self._ports)
        own = {"ROWTIDE_HOME": str(self.home.folder), "ROWTIDE_PREFECT_PORT": port}
        own |= {"ROWTIDE_RECEIVER_PORT": receiver_port, "ROWTIDE_WEBHOOK_SECRETS": SECRET, "ROWTIDE_PAGE": "0"}
        own |= {"ANTHROPIC_API_KEY": self.home.account, "ANTHROPIC_BASE_URL": self.home.api_url}
        own |= {"ROWTIDE_CONFIRM_WITHIN_SECONDS": "1", "PYTHONPATH": str(ROOT)}
        log = self._folder / "said"
        before = log.stat().st_size if log.exists() else 0
        with log.open("a") as said:
            command = [sys.executable, "-m", "deploy.serve"]
            self._process = subprocess.Popen(
                command, cwd=self._folder, env={**known, **own}, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        wait(lambda: b"Ready." in log.read_bytes()[before:] or self._process.poll() is not None, START_SECONDS)
        assert self._process.poll() is None, log.read_text()

    def kill(self, *, is_whole: bool, are_guardians: bool) -> None:
        """SIGKILL its parts, and their guardians; `is_whole`: and itself, and start it again when all of it is gone."""
        if is_whole:
            self._process.kill()
        spared = [mark for mark in SPARED if not (are_guardians and mark == "guardian.py")]
        for each in self.processes():
            if not any(mark in words_of(each) for mark in spared):
                with suppress(psutil.Error):
                    each.kill()
        if is_whole:
            self._process.wait()
            wait(lambda: not self.processes(), START_SECONDS)
            self.start()

    def stop(self) -> list[str]:
        """As Ctrl-C does. Returns what is left running, and how it ended otherwise than it should."""
        self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        left = [words_of(each) for each in self.processes()]
        return left if status == 0 else [*left, f"make serve ended with {status}"]

    def end(self) -> None:
        """Whatever is left of it."""
        for each in self.processes():
            with suppress(psutil.Error):
                each.kill()

    def processes(self) -> list[psutil.Process]:
        """Whatever was started for it, wherever it hangs now: it works in this folder."""
        found: list[psutil.Process] = []
        for each in psutil.process_iter():
            with suppress(psutil.Error):  # somebody else's, or it has just gone
                if each.status() != psutil.STATUS_ZOMBIE and Path(each.cwd()).is_relative_to(self._folder):
                    found.append(each)
        return found

    def make_job(self, name: str, keys: list[str]) -> None:
        """A job with these rows."""
        lines = [f"{key},A-1,The parcel is late." for key in keys]
        _make_job(self._folder / "jobs" / name, rows="\n".join(["message_id,order_id,message", *lines]) + "\n")


@dataclass
class Traffic:
    """A sender of messages that asks for runs too. What is not answered it sends again, under the same id."""

    service: Service
    wanted: dict[str, list[str]] = field(default_factory=lambda: {INBOX: []})  # job → keys that were taken
    _is_over: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            rows = [
                {"message_id": f"w{number}-{n}", "order_id": "A-2", "message": "The manual is torn."} for n in (1, 2)
            ]
            self._send(f"inbox/{INBOX}", f"message-{number}", rows)
            self.wanted[INBOX] += [row["message_id"] for row in rows]
            if number % RUN_EVERY == 1:
                job = f"run-{number}"
                keys = [f"{job}-{n}" for n in range(RUN_ROWS)]
                self.service.make_job(job, keys)
                self._send(f"runs/{job}", job, {"job": job})
                self.wanted[job] = keys
            self._is_over.wait(1.0)

    def end(self) -> None:
        self._is_over.set()

    def _send(self, path: str, message_id: str, value: object) -> None:
        body = json.dumps(value)
        while True:
            now = datetime.now(UTC)
            headers = {"webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp()))}
            headers["webhook-signature"] = Webhook(SECRET).sign(message_id, now, body)
            with suppress(httpx2.HTTPError):
                if httpx2.post(f"{self.service.receiver}/v1/{path}", content=body, headers=headers).is_success:
                    return
            time.sleep(0.5)


def wait(seen: Callable[[], object], seconds: float, *, say: Callable[[], None] | None = None) -> bool:
    """Whether it is seen in so many seconds."""
    until, next_word = time.monotonic() + seconds, 0.0
    while not seen() and time.monotonic() < until:
        if say and time.monotonic() > next_word:
            say()
            next_word = time.monotonic() + 15
        time.sleep(0.5)
    return bool(seen())


def words_of(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return "a process that has just gone"


def _make_job(folder: Path, *, rows: str = "", **changed: object) -> None:
    shutil.copytree(SMALL, folder, dirs_exist_ok=True)
    spec = yaml.safe_load((folder / "job.yaml").read_text()) | {
        "sink": {"kind": "parquet", "path": folder.name},
        **changed,
    }
    spec["limits"] |= {"patience_seconds": PATIENCE_SECONDS}
    (folder / "job.yaml").write_text(yaml.safe_dump(spec))
    (folder / "rows.csv").write_text(rows)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

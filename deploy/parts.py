"""A part of the service: a program that is started, watched, started again when it ends, and ended with all it started.

What it prints goes into a log of bounded size.
"""

import logging
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

import psutil

from rowtide import process_guardian

LOG_BYTES = 2_000_000
OLD_LOGS = 2  # of each part, beside the one that is written
LINE_CHARS = 4000
STOP_SECONDS = process_guardian.GRACE_SECONDS + 10
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LONG_LIFE_SECONDS = 30.0  # after so long a life, the next pause is the first one again
MARK = "ROWTIDE_PART"  # a variable that all it starts inherit


class Part:
    """One part. It is ready once it has printed what it `says`, if that is anything, and looks so from outside."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        logs: Path,
        looks_ready: Callable[[], bool],
        says: str = "",
    ) -> None:
        self.name, self._command, self._environment = name, command, environment
        self._looks_ready, self._says = looks_ready, says
        self.log_file = logs / f"{name}.log"
        self.restarts = 0
        self.is_ready = False
        self._log = _bounded_log(self.log_file)
        self._pause = FIRST_PAUSE_SECONDS
        self._due_at = 0.0  # when it may be started again, by the monotonic clock
        self._start()

    def look(self) -> str | None:
        """Start it again when it has ended and that is due. Returns what an operator should hear, if anything."""
        if (status := self._process.poll()) is None:
            if self.is_ready or not self._has_said_so or not self._looks_ready():
                return None
            self.is_ready = True
            return f"{self.name} is ready after {self.seconds:.0f} s"
        now = time.monotonic()
        if not self._due_at:
            end_marked(self._mark)
            if now - self._started_at > LONG_LIFE_SECONDS:
                self._pause = FIRST_PAUSE_SECONDS
            self._due_at = now + self._pause
            self.is_ready = False
            return f"{self.name} ended with {status}; starting it again in {self._pause:.0f} s (log: {self.log_file})"
        if now >= self._due_at:
            self._due_at, self._pause = 0.0, min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            self.restarts += 1
            self._start()
        return None

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._started_at

    def stop(self) -> None:
        """Tell it to end; `wait` waits for that."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> None:
        """Until it and all it has started are gone."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        end_marked(self._mark)
        self._reader.join(1.0)

    def _start(self) -> None:
        self._has_said_so = not self._says
        self._started_at = time.monotonic()
        self._mark = secrets.token_hex(8)
        self._process = subprocess.Popen(
            process_guardian.guarded_command(*self._command),
            env={**self._environment, MARK: self._mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us alone: we say who ends when
        )
        self._reader = threading.Thread(target=self._copy, args=(self._process,), daemon=True)
        self._reader.start()

    def _copy(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout
        while line := process.stdout.readline(LINE_CHARS):
            text = line.decode("utf-8", "replace").rstrip("\n")
            self._has_said_so = self._has_said_so or self._says in text
            self._log.info("%s", text)


def end_marked(mark: str) -> None:
    """End what a part has left running: whoever kills a part hard may have killed its guardian too."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # somebody else's, or it has just gone
            if process.environ().get(MARK) == mark:
                process.kill()


def _bounded_log(file: Path) -> logging.Logger:
    log = logging.getLogger(f"deploy.{file.stem}")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=OLD_LOGS, encoding="utf-8")]
    return log

"""Supervise background work: restart it with backoff when it fails, and count its failures."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rowtide.job.job_code import redacted_failure_line
from rowtide.observing.event_log import logger

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 8.0  # well below the length of a lease

log = logger("rowtide")


@dataclass
class Background:
    """A background thread or task, and how it has fared."""

    name: str
    meanwhile: str
    """What its silence means, for whoever reads the log."""
    restarts: int = 0
    last_error: str | None = None
    is_failing: bool = False
    _in_a_row: int = 0

    def succeeded(self) -> None:
        """Record a success."""
        if self.is_failing:
            log.warning("%s works again after %d failures", self.name, self._in_a_row)
        self.is_failing, self._in_a_row = False, 0

    def failed(self, error: Exception) -> float:
        """Record a failure. Returns the seconds to wait before the restart."""
        first_line = str(error).partition("\n")[0]  # of a database's error; below it stand a row's values
        self.last_error = f"{type(error).__name__}: {redacted_failure_line(first_line)}"
        pause = min(FIRST_PAUSE_SECONDS * 2**self._in_a_row, LONGEST_PAUSE_SECONDS)
        self.restarts, self._in_a_row, self.is_failing = self.restarts + 1, min(self._in_a_row + 1, 10), True
        words = "%s failed (%s); it is started again in %g s; meanwhile %s"
        fields = {"event": "background_failed", "background": self.name, "restarts": self.restarts}
        log.warning(words, self.name, self.last_error, pause, self.meanwhile, extra=fields)
        return pause


async def supervise(background: Background, work: Callable[[], Awaitable[None]]) -> None:
    """Run a task's work, restarting it after failures, until it is cancelled or returns."""
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 # a boundary: whatever it was, the work goes on
            await asyncio.sleep(background.failed(error))
        else:
            return


def supervise_thread(background: Background, work: Callable[[], None], over: threading.Event) -> None:
    """Run a thread's work, restarting it after failures, until it returns or `over` is set."""
    while not over.is_set():
        try:
            work()
        except Exception as error:  # noqa: BLE001 # a boundary: whatever it was, the work goes on
            over.wait(background.failed(error))
        else:
            return

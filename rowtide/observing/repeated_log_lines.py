"""Limit repeated log lines: each is written once a minute, with the number of those left out."""

import logging
import re
import time
from collections.abc import Callable

PERIOD_SECONDS = 60.0
MOST_KINDS = 1000
CHANGING = re.compile(r"0x[0-9a-f]+|\d+")


class OncePerMinute(logging.Filter):
    """Lets one record a minute through among those that differ only in numbers."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._last: dict[str, tuple[float, int]] = {}
        """When a record of a kind was let through, and how many were left out since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write the record; the first of a new minute says how many were left out."""
        words, now = record.getMessage(), self._monotonic()
        kind = f"{record.name} {CHANGING.sub('#', words)[:200]}"
        at, left_out = self._last.get(kind, (float("-inf"), 0))
        if now - at < PERIOD_SECONDS:
            self._last[kind] = (at, left_out + 1)
            return False
        if len(self._last) >= MOST_KINDS:
            self._last.clear()
        self._last[kind] = (now, 0)
        if left_out:
            record.msg, record.args = f"{words} ({left_out:,} more like it in the last minutes)", None
        return True


def limit_logs() -> None:
    """Give every existing handler the same filter. A filter on a logger would not see its children's records."""
    limit = OncePerMinute()
    loggers = [logging.getLogger(), *(each for each in logging.root.manager.loggerDict.values())]
    handlers = {id(each): each for logger in loggers if isinstance(logger, logging.Logger) for each in logger.handlers}
    if logging.lastResort:
        handlers[0] = logging.lastResort
    for each in handlers.values():
        each.addFilter(limit)

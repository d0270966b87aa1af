"""Log events for an engineer on call: few lines, about batches and runs, never about single rows.

A line's words are for people; what programs look for stands beside them as fields: `event`, `run_id`, `batch_id`. They
hold ids and figures only: no row's text, no tool's output and no secret is ever said here.
"""

import logging
from collections.abc import Mapping
from typing import Any

from rowtide.escaping import log_line


class OneLineLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records are one line each, so that quoted text cannot forge a line of the log."""

    def log(self, level: int, msg: object, *args: object, **parts: Any) -> None:
        if self.logger.isEnabledFor(level):
            self.logger.log(level, log_line(str(msg) % args if args else msg), **parts)


def logger(name: str) -> OneLineLogger:
    """Return the logger of a module. All of Rowtide logs through one of these."""
    return OneLineLogger(logging.getLogger(name))


log = logger("rowtide")


def log_event(event: str, words: str, fields: Mapping[str, object], *, is_warning: bool = False) -> None:
    """Log an event of a run or a job; `is_warning` means that somebody may have to act on it."""
    about = f"run {fields['run_id']} of {fields['job']}" if "run_id" in fields else f"job {fields['job']}"
    level = logging.WARNING if is_warning else logging.INFO
    log.log(level, "%s: %s", about, words, extra={"event": event, **fields})

"""What an engineer on call needs to hear of, as lines of the log: few, of batches and runs, never of single rows.

A line's words are for people; what programs look for stands beside them as fields: `event`, `run_id`, `batch_id`. They
hold ids and figures only: no row's text, no tool's output and no secret is ever said here.
"""

import logging
from collections.abc import Mapping

log = logging.getLogger("rowtide")


def happened(event: str, words: str, fields: Mapping[str, object], *, is_trouble: bool = False) -> None:
    """Say that something happened to a run of a job, or to a job; trouble is what somebody may have to act on."""
    about = f"run {fields['run_id']} of {fields['job']}" if "run_id" in fields else f"job {fields['job']}"
    level = logging.WARNING if is_trouble else logging.INFO
    log.log(level, "%s: %s", about, words, extra={"event": event, **fields})

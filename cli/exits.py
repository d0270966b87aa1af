"""The exit statuses of `rowtide`, in one table for help, documents and summaries."""

import traceback
from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

from rowtide.masking import mask_secrets

BUDGETS = ("budget", "day_budget")


class Exit(IntEnum):
    DONE = 0
    STOPPED = 1
    MISTAKE = 2
    HELD = 3
    BUDGET = 4
    TOO_FEW = 5
    REFUSED = 6
    INTERRUPTED = 130
    TERMINATED = 143


MEANS = {
    Exit.DONE: "done: every row is loaded, unchanged or in quarantine",
    Exit.STOPPED: "stopped before the end; what was committed is kept, and rowtide resume RUN goes on",
    Exit.MISTAKE: "a mistake in a command, a job or a source; nothing was sent for it",
    Exit.HELD: "held: a gate, a tool call, an orphaned batch or a version that no eval passed waits for a person; "
    "of slo: an objective is breached",
    Exit.BUDGET: "stopped at a budget; rowtide resume RUN --budget MORE goes on",
    Exit.TOO_FEW: "done, but nothing was loaded, or fewer rows than --min-loaded or limits.min_loaded asks for",
    Exit.REFUSED: "of eval: the version does not pass: it is worse, or undecided, or cannot be compared",
    Exit.INTERRUPTED: "interrupted (Ctrl-C); rowtide resume RUN goes on",
    Exit.TERMINATED: "terminated (SIGTERM); rowtide resume RUN goes on",
}
TABLE = "\n".join(["Exit status:", *(f"  {status.value:>3}  {words}" for status, words in MEANS.items())])


def exit_status_of(found: Mapping[str, Any]) -> Exit:
    """Return the exit status for a run that ended with this summary."""
    if found["stopped"]:
        return Exit.BUDGET if found["stopped"] in BUDGETS else Exit.STOPPED
    if found["held"] or found["gate_approvals"]:
        return Exit.HELD
    return Exit.TOO_FEW if found["too_few_loaded"] else Exit.DONE


def unexpected_error_text(error: BaseException, home: Path, run_id: str | None, *, now: datetime) -> str:
    """Return the message for an error that nobody foresaw; its traceback is written to a file."""
    file = home / "errors" / f"{now:%Y%m%d-%H%M%S-%f}.txt"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(mask_secrets("".join(traceback.format_exception(error))), encoding="utf-8", errors="replace")
        where = f"the traceback is in {file}"
    except OSError as unwritten:
        where = f"its traceback could not be written ({unwritten})"
    first = mask_secrets(f"{error}").strip().partition("\n")[0][:500]
    resume = f"; run {run_id} keeps what was committed: rowtide resume {run_id}" if run_id else ""
    return f"an error that nobody foresaw: {type(error).__name__}: {first}{resume}; {where}"

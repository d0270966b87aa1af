"""Make and check run ids: each is part of file names and of the commands that are printed."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator

from rowtide.errors import UserMistake

LONGEST = 200  # bytes
OF_EVALS = " (eval)"  # after a job's name: no job can be called so
_ILLEGAL = re.compile(r"[^\w .,@+=~-]")
_LEGAL = re.compile(r"(?!\.+$)(?![- ])[\w .,@+=~-]+(?<! )")  # one name, not the folder above, and no option


def check_run_id(run_id: str) -> str:
    """Return the id, if it is a legal run id. Raises UserMistake."""
    if not _LEGAL.fullmatch(run_id) or len(run_id.encode("utf-8", "replace")) > LONGEST:
        raise UserMistake(
            f"a run cannot be called {run_id[:80]!r}: an id is the name of a file, of at most {LONGEST} bytes: "
            "letters, digits, spaces and any of _.,@+=~- but no - in front, and not only dots"
        )
    return run_id


def new_run_id(job: str, now: datetime, end: str) -> str:
    """Return a new run id that begins with the job's name, made legal if need be."""
    known = _ILLEGAL.sub("-", job).encode()[: LONGEST - 50].decode(errors="ignore").strip(" -")
    return f"{known or 'run'}-{now:%m%d-%H%M%S}-{end}"


def job_of_evals(job: str) -> str:
    """Return the job name under which the runs of a job's evals are recorded, so that nothing counts them among the
    job's own runs: its sink, its figures, its objectives.
    """
    return f"{job}{OF_EVALS}"


def without_evals(job: str) -> str:
    """Return the job's own name from its own or its evals' name."""
    return job.removesuffix(OF_EVALS)


def _form(run_id: str) -> str:
    try:
        return check_run_id(run_id)
    except UserMistake as mistake:
        raise ValueError(str(mistake)) from None


RunId = Annotated[str, AfterValidator(_form)]
"""A run id in a form, or from anywhere that pydantic looks at."""

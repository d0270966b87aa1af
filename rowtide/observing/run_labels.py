"""The title of a run or an eval in lists, and the labels by which it is found."""


def run_title(job: str, run_id: str, status: str = "") -> str:
    """Return the title of a run: its job (unless the id begins with it), its id and its status."""
    named = run_id if run_id.startswith(job) else f"{job} {run_id}"
    return f"{named}: {status}" if status else named


def eval_labels(job: str, eval_id: str) -> dict[str, str | None]:
    """The labels of an eval, in the place of those of its runs."""
    return {"job": job, "run": None, "eval": eval_id}


def run_labels(job: str, run_id: str, owner: str | None, runbook: str | None) -> dict[str, str | None]:
    """Return the labels of a run: job, run id, owner and runbook."""
    return {"job": job, "run": run_id, "owner": owner, "runbook": runbook}

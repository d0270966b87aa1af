"""The title of a run in lists, and the labels by which it is found."""


def run_title(job: str, run_id: str, status: str = "") -> str:
    """The run, its job unless its id begins with it, and what there is to say of it."""
    named = run_id if run_id.startswith(job) else f"{job} {run_id}"
    return f"{named}: {status}" if status else named


def run_labels(job: str, run_id: str, owner: str | None, runbook: str | None) -> dict[str, str | None]:
    """Of which job, which run, who is called about it, and where it stands what to do."""
    return {"job": job, "run": run_id, "owner": owner, "runbook": runbook}

"""`rowtide jobs`: list the jobs under jobs/, each with its source, its ladder and its newest run."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from cli.open_ledger import has_any_ledger, open_all_ledgers
from cli.output import err, out, plain_table, print_json
from rowtide.errors import UserMistake
from rowtide.intake.sources import source_display_name
from rowtide.job.job_file import read_spec
from rowtide.ledger.answers import runs_by_name
from rowtide.ledger.ledger import Run
from rowtide.ledger.rows import count_by_state

JOBS = Path("jobs")


def jobs(*, json: bool = False) -> int:
    """List the jobs under jobs/, each with its source, its tiers and its newest run.

    A job whose job.yaml is wrong is listed with what is wrong.

    Parameters
    ----------
    json
        Print a JSON list on stdout.
    """
    folders = sorted(file.parent for file in JOBS.glob("*/job.yaml"))
    found = [_seen(folder, _newest_run(folder.name)) for folder in folders]
    if json:
        print_json(found)
        return 0
    if not found:
        err.print(f"no jobs here: none of the folders in {JOBS.resolve()} holds a job.yaml")
        return 0
    table = plain_table("job", "source", "tiers", "newest run", "begun", numbers=("rows", "loaded", "quarantined"))
    for each in found:
        run = each["newest_run"] or {}
        counts = [f"{run[name]:,}" if run else "" for name in ("rows", "loaded", "quarantined")]
        tiers = " → ".join(each["tiers"])
        newest = (run.get("run_id", "none yet"), run.get("begun", ""))
        table.add_row(each["job"], each["source"] or "", tiers, *newest, *counts)
    out.print(table)
    out.lines([f"{each['job']}: {each['mistake']}" for each in found if each["mistake"]])
    return 0


def _seen(folder: Path, newest: dict[str, Any] | None) -> dict[str, Any]:
    seen: dict[str, Any] = {"job": folder.name, "source": None, "tiers": [], "mistake": None, "newest_run": newest}
    try:
        spec = read_spec(folder)
        return {**seen, "source": source_display_name(spec.source, folder), "tiers": spec.tiers}
    except UserMistake as mistake:
        return {**seen, "mistake": str(mistake)}


def _newest_run(job: str) -> dict[str, Any] | None:
    """Of all ledgers here, the rehearsal's too."""
    found: list[tuple[str, dict[str, Any]]] = []
    for ledger in open_all_ledgers() if has_any_ledger() else ():
        with ledger.view() as tx, suppress(UserMistake):  # this ledger has no run of the job
            run = runs_by_name(tx, job)[0]
            found.append((run.started_at, _counts(run, count_by_state(tx, run))))
    return max(found, key=lambda each: each[0])[1] if found else None


def _counts(run: Run, states: Any) -> dict[str, Any]:
    shown = {name: states[name] for name in ("loaded", "quarantined", "unchanged")}
    return {"run_id": run.run_id, "begun": run.started_at[:16], "rows": sum(states.values()), **shown}

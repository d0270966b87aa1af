"""Finds which API answers a job's runs; data of different APIs is never mixed."""

from sqlalchemy import Connection, text

from rowtide.api.api_identity import UNKNOWN, Api

# SQL: the API of the job's newest run, for queries about a job rather than one run. Binds :job.
OF_NEWEST_RUN = "(SELECT api FROM run WHERE job = :job ORDER BY run_no DESC LIMIT 1)"


def api_of_job(tx: Connection, job: str) -> Api:
    """Return the API of the job's newest run, or UNKNOWN when the job has no run."""
    query = text("SELECT api, made_up FROM run WHERE job = :job ORDER BY run_no DESC LIMIT 1")
    found = tx.execute(query, {"job": job}).first()
    return UNKNOWN if found is None else Api(found.api, is_made_up=bool(found.made_up))


def newest_run_start(tx: Connection, run_id: str | None, row_key: str | None, job: str | None) -> str | None:
    """Return when the newest run began that matches the id (its own or its eval's) or job, and has a row of this key.
    None without a match.
    """
    of_row = "SELECT 1 FROM row r WHERE r.run_no = u.run_no AND r.row_key = :key"
    of_run = ["u.run_id = :run", "u.eval_id = :run"] if run_id else []
    named = " OR ".join([*of_run, *(["u.job = :job"] if job else [])]) or "1 = 1"
    has_row = f"AND EXISTS ({of_row})" if row_key else ""
    query = text(f"SELECT max(u.started_at) FROM run u WHERE ({named}) {has_row}")
    return tx.execute(query, {"run": run_id, "key": row_key, "job": job}).scalar()

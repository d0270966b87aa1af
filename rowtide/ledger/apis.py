"""Which API answered a job: facts of several are never mixed."""

from sqlalchemy import Connection, text

from rowtide.api.which_api import UNKNOWN, Api

# For what is asked of a job and of no run: the API of its newest run. Its name is bound as :job.
OF_NEWEST_RUN = "(SELECT api FROM run WHERE job = :job ORDER BY run_no DESC LIMIT 1)"


def api_of_job(tx: Connection, job: str) -> Api:
    """The API that answers the job's newest run; an unknown one where it has none."""
    query = text("SELECT api, made_up FROM run WHERE job = :job ORDER BY run_no DESC LIMIT 1")
    found = tx.execute(query, {"job": job}).first()
    return UNKNOWN if found is None else Api(found.api, is_made_up=bool(found.made_up))


def newest_start(tx: Connection, run_id: str | None, row_key: str | None, job: str | None) -> str | None:
    """When the newest run began: of all; or of this id or job; with a row of this key. None where there is none."""
    of_row = "SELECT 1 FROM row r WHERE r.run_no = u.run_no AND r.row_key = :key"
    named = " OR ".join([*(["u.run_id = :run"] if run_id else []), *(["u.job = :job"] if job else [])]) or "1 = 1"
    has_row = f"AND EXISTS ({of_row})" if row_key else ""
    query = text(f"SELECT max(u.started_at) FROM run u WHERE ({named}) {has_row}")
    return tx.execute(query, {"run": run_id, "key": row_key, "job": job}).scalar()


def record_api(tx: Connection, run_id: str, api: str) -> None:
    """Give a run of an older ledger, which named no API, the one that goes on with it."""
    tx.execute(text("UPDATE run SET api = :api WHERE run_id = :run AND api = ''"), {"api": api, "run": run_id})

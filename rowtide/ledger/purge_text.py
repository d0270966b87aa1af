"""Deletes text from the ledger: rows' content, answers, tool output, messages. Counts and money stay.

A purged row keeps its key, state, turns and cost, and a note says when it was purged. Repeating a purge changes
nothing, so a killed purge is finished by the next.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from rowtide.agent.states import SETTLED
from rowtide.errors import WorldError
from rowtide.job.run_id import job_of_evals
from rowtide.ledger.ledger import Ledger, Run, find_run, is_one_of, list_parameter, to_timestamp
from rowtide.ledger.rows import MoveReason, quarantine_rows

AT_ONCE = 5_000  # rows; SQLite keeps every page that one statement changes in memory
PURGED = "purge"  # the move of the note
KEY = "CAST(:key AS text)"  # PostgreSQL needs a type for a null
OF_KEY = f"({KEY} IS NULL OR r.row_key = {KEY})"
MINE = f"row_no IN (SELECT r.row_no FROM row r WHERE r.row_no BETWEEN :first AND :last AND {OF_KEY})"
NOT_YET = f"NOT EXISTS (SELECT 1 FROM note n WHERE n.row_no = r.row_no AND n.move = '{PURGED}')"
CHOSEN = f"r.run_no = :run AND {OF_KEY} AND {NOT_YET}"
IS_UNFINISHED = " AND ".join(f"r.state <> '{state.value}'" for state in sorted(SETTLED))

# Text of rows; the order of the statements does not matter.
OF_ROWS = (
    f"UPDATE row_content SET content = {{nothing}} WHERE {MINE}",
    f"UPDATE turn SET content = {{none}} WHERE {MINE}",
    f"UPDATE tool_call SET arguments = {{nothing}}, output = '' WHERE {MINE}",
    f"UPDATE call_approval SET arguments = {{nothing}}, why = NULL WHERE {MINE}",
    f"UPDATE note SET detail = '', was = NULL WHERE move <> '{PURGED}' AND {MINE}",
    f"DELETE FROM note WHERE move = 'quote' AND {MINE}",
    f"DELETE FROM estimate WHERE {MINE}",
    f"DELETE FROM answer WHERE {MINE}",
)
# Text of rows that the run as a whole keeps.
OF_RUN = (
    "DELETE FROM memo WHERE run_no = :run",
    "DELETE FROM profile WHERE run_no = :run",
    "UPDATE verdict SET examples = '[]', observed = NULL, message = type WHERE run_no = :run",
    "UPDATE gate_approval SET failures = '[]', why = NULL WHERE run_no = :run",
)


def purgeable_runs(
    tx: Connection, *, job: str | None, run_id: str | None, key: str | None, before: datetime | None
) -> list[Run]:
    """Return the runs with something to purge, by job, id, a row's key, and begun before a moment."""
    asked = [
        *(["u.job IN (:job, :evals)"] if job else []),
        *(["u.run_id = :run"] if run_id else []),
        *(["u.started_at < :before"] if before else []),
        f"EXISTS (SELECT 1 FROM row r WHERE r.run_no = u.run_no AND {OF_KEY} AND {NOT_YET})",
    ]
    query = text(f"SELECT u.run_id FROM run u WHERE {' AND '.join(asked)} ORDER BY u.run_no")
    values = {"job": job, "evals": job_of_evals(job or ""), "run": run_id, "key": key}
    values["before"] = to_timestamp(before) if before else None
    return [find_run(tx, each) for each in tx.execute(query, values).scalars()]


def count_purgeable_rows(tx: Connection, run: Run, key: str | None) -> int:
    """Count the rows of a run that would be purged."""
    query = text(f"SELECT count(*) FROM row r WHERE {CHOSEN}")
    return int(tx.execute(query, {"run": run.run_no, "key": key}).scalar_one())


def count_unfinished_rows(tx: Connection, run: Run) -> int:
    """Count the rows of a run that are not settled and still need their text; one more while rows are coming in.

    The rows of an eval's run that is over need theirs no more: they are not loaded.
    """
    if run.eval_id and run.finished_at:
        return 0
    query = text(f"SELECT count(*) FROM row r WHERE r.run_no = :run AND {IS_UNFINISHED}")
    return int(tx.execute(query, {"run": run.run_no}).scalar_one()) + (run.extracted_at is None)


def quarantine_unfinished_rows(ledger: Ledger, run: Run, *, now: datetime) -> None:
    """Quarantine the rows of a canceled run that need their text to go on."""
    query = text(f"SELECT r.row_no, r.turn FROM row r WHERE r.run_no = :run AND {IS_UNFINISHED} LIMIT {AT_ONCE}")
    while True:
        with ledger.page() as tx:
            found = tx.execute(query, {"run": run.run_no}).all()
            quarantine_rows(tx, [MoveReason(row_no, turn, "purged", "") for row_no, turn in found], now=now)
        if len(found) < AT_ONCE:
            return


def purge_run(ledger: Ledger, run: Run, key: str | None, *, now: datetime) -> None:
    """Delete the text of a run's rows, or of the row with this key, and the run's own copies of it."""
    last = run.first_row_no + run.read_rows
    for first in range(run.first_row_no, last + 1, AT_ONCE):
        with ledger.page() as tx:
            _empty(tx, run, key, first, min(first + AT_ONCE - 1, last), now)
    with ledger.page() as tx:
        for statement in OF_RUN:
            tx.execute(text(statement), {"run": run.run_no})
        blank = f"UPDATE message_row SET content = {_bytes(tx, '{}')} WHERE run_id = :run "
        blank += f"AND ({KEY} IS NULL OR row_key = {KEY})"
        tx.execute(text(blank), {"run": run.run_id, "key": key})


class PurgeableEval(NamedTuple):
    """An eval whose golden rows' text can be purged."""

    eval_no: int
    eval_id: str
    job: str
    started_at: str
    rows: int


def purgeable_evals(
    tx: Connection, *, job: str | None, key: str | None, before: datetime | None
) -> list[PurgeableEval]:
    """Return the finished evals with text to purge: of a job, with a row of this key, begun before a moment."""
    asked = [*(["e.job = :job"] if job else []), *(["e.started_at < :before"] if before else [])]
    query = text(
        "SELECT e.eval_no, e.eval_id, e.job, e.started_at, count(*) FROM eval e JOIN eval_row r USING (eval_no) "
        f"WHERE {' AND '.join(['e.finished_at IS NOT NULL', 'length(r.content) > 2', OF_KEY, *asked])} "
        "GROUP BY e.eval_no, e.eval_id, e.job, e.started_at ORDER BY e.eval_no"
    )
    values = {"job": job, "key": key, "before": to_timestamp(before) if before else None}
    return [PurgeableEval(*each) for each in tx.execute(query, values)]


def purge_evals(tx: Connection, evals: Sequence[PurgeableEval], key: str | None) -> None:
    """Delete the text of evals' golden rows, or of the row with this key, and tools' recorded outputs.

    Verdicts and counts stay. A recording names no row: for a key, all of those jobs are deleted.
    """
    nothing = _bytes(tx, "{}")
    emptied = text(
        f"UPDATE eval_row SET content = {nothing}, golden = {nothing}, found = NULL "
        f"WHERE eval_no {is_one_of(tx, 'evals')} AND ({KEY} IS NULL OR row_key = {KEY})"
    )
    tx.execute(emptied, {"evals": list_parameter([each.eval_no for each in evals]), "key": key})
    for name in {each.job for each in evals}:
        tx.execute(text("DELETE FROM recording WHERE job = :job"), {"job": name})


def runs_of_judges(tx: Connection, evals: Sequence[PurgeableEval]) -> list[Run]:
    """Return the runs that asked judges in these evals. A pair names no row: for a key, all of them are purged."""
    query = text(
        "SELECT u.run_id FROM run u JOIN eval e USING (eval_id) WHERE u.run_id LIKE e.eval_id || '-%-judge%' "
        f"AND e.eval_no {is_one_of(tx, 'evals')} ORDER BY u.run_no"
    )
    found = tx.execute(query, {"evals": list_parameter([each.eval_no for each in evals])}).scalars().all()
    return [find_run(tx, each) for each in found]


def prune_messages(tx: Connection, *, before: datetime) -> int:
    """Delete the text of messages received before a moment whose rows a run has read. Returns how many rows.

    The message itself is remembered: one that is sent again is recognized.
    """
    query = text(
        f"UPDATE message_row SET content = {_bytes(tx, '{}')} WHERE length(content) > 2 AND run_id IN "
        "(SELECT run_id FROM run WHERE extracted_at IS NOT NULL) AND message_no IN "
        "(SELECT message_no FROM message WHERE received_at < :before)"
    )
    return tx.execute(query, {"before": to_timestamp(before)}).rowcount


def reclaim_space(ledger: Ledger) -> None:
    """Vacuum the database, so that deleted text is gone from its files. Raises WorldError."""
    connection = ledger.engine.raw_connection()
    driver: Any = connection.driver_connection
    try:
        if ledger.engine.dialect.name == "sqlite":
            driver.execute("VACUUM")
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            driver.autocommit = True
            driver.execute("VACUUM (FULL)")
    except ledger.engine.dialect.loaded_dbapi.Error as error:
        words = f"the text is deleted, but its room is not given back while others use the ledger ({error})"
        raise WorldError(f"{words}: ask again when they have ended") from None
    finally:
        connection.invalidate()


def _empty(tx: Connection, run: Run, key: str | None, first: int, last: int, now: datetime) -> None:
    values = {"run": run.run_no, "first": first, "last": last, "key": key, "now": to_timestamp(now)}
    for statement in OF_ROWS:
        filled = statement.format(nothing=_bytes(tx, "{}"), none=_bytes(tx, "[]"))
        tx.execute(text(filled), values)
    noted = (
        "INSERT INTO note (row_no, turn, move, reason, detail, noted_at) "
        f"SELECT r.row_no, r.turn, '{PURGED}', 'purged', '', :now FROM row r "
        f"WHERE r.row_no BETWEEN :first AND :last AND {CHOSEN}"
    )
    tx.execute(text(noted), values)


def _bytes(tx: Connection, value: str) -> str:
    """Return an SQL literal of bytes."""
    return f"CAST('{value}' AS {'BLOB' if tx.dialect.name == 'sqlite' else 'bytea'})"

"""Reads what a job's earlier runs used, for a forecast."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from sqlalchemy import Connection, Row, create_engine, inspect, text
from sqlalchemy.engine import make_url

from rowtide.forecast.tier_visits import TierVisit, VisitHistory
from rowtide.ledger.engine import database_errors_as_ledger_errors
from rowtide.ledger.ledger import is_one_of, list_parameter

ROWS = 20_000  # settled rows to read: more would say the same
RUNS = 20


def has_ledger(url: str) -> bool:
    """Return whether there is a ledger at a SQLAlchemy URL. Creates nothing, not even a file. Raises LedgerUnavailable,
    LedgerBroken.
    """
    place = make_url(url)
    database = place.database
    if url.startswith("sqlite") and not (database and Path(database).is_file()):
        return False
    engine = create_engine(url)
    try:
        with database_errors_as_ledger_errors(place.render_as_string(hide_password=True)):
            return inspect(engine).has_table("run")
    finally:
        engine.dispose()


def visit_history(tx: Connection, job: str, asking: str, tiers: str, api: str) -> VisitHistory | None:
    """Return the tier visits of the job's newest settled rows on this ladder (JSON) and this API, or None.

    Prefers runs that asked as this version of the job does, if there are any.
    """
    query = text(
        "SELECT u.run_no, v.asking FROM run u JOIN version v USING (run_no, version_no) "
        "WHERE u.job = :job AND u.api = :api AND u.tiers = :tiers AND EXISTS "
        "(SELECT 1 FROM row r WHERE r.run_no = u.run_no AND r.turn > 0 "
        "AND r.state IN ('accepted', 'loaded', 'quarantined')) ORDER BY u.run_no DESC LIMIT 200"
    )
    found = tx.execute(query, {"job": job, "api": api, "tiers": tiers}).tuples().all()
    same = [run_no for run_no, its in found if its == asking]
    runs = (same or [run_no for run_no, _ in found])[:RUNS]
    turns = _turns(tx, runs)
    if not turns:
        return None
    rows = {each.row_no for each in turns}
    return VisitHistory(len(rows), len({each.run_no for each in turns}), bool(same), list(_visits(turns)))


def unchanged_keys(tx: Connection, job: str, asking: str, api: str, rows: Mapping[str, str]) -> set[str]:
    """Return the keys, among rows (key → row_id), that an earlier run asked this API in the same way. A run does not
    ask them again, unless their answer fails today's checks.
    """
    settled: set[str] = set()
    for table in ("loaded", "unverified"):
        query = text(
            f"SELECT row_key, row_id FROM {table} WHERE job = :job AND asking = :asking AND api = :api "
            f"AND row_key {is_one_of(tx, 'keys', kind='text')}"
        )
        found = tx.execute(
            query, {"job": job, "asking": asking, "api": api, "keys": list_parameter(list(rows))}
        ).tuples()
        settled |= {key for key, row_id in found if rows[key] == row_id}
    return settled


def _turns(tx: Connection, runs: Sequence[int]) -> Sequence[Row[tuple[int, ...]]]:
    """Return every reply to the newest settled rows of these runs, row by row in order; self-checks last."""
    query = text(
        "SELECT r.run_no, r.row_no, r.tier ended, t.tier, t.turn, t.cache_write_tokens written, "
        "t.input_tokens + t.cache_write_tokens + t.cache_read_tokens prompt, t.cache_read_tokens read_, "
        "t.output_tokens output FROM (SELECT run_no, row_no, tier FROM row "
        f"WHERE run_no {is_one_of(tx, 'runs')} AND turn > 0 AND state IN ('accepted', 'loaded', 'quarantined') "
        "ORDER BY row_no DESC LIMIT :rows) r JOIN turn t ON t.row_no = r.row_no "
        "ORDER BY r.row_no, CASE WHEN t.kind = 'answer' THEN 0 ELSE 1 END, t.turn"
    )
    return tx.execute(query, {"runs": list_parameter(list(runs)), "rows": ROWS}).all()


def _visits(turns: Sequence[Row[tuple[int, ...]]]) -> Iterator[TierVisit]:
    for (_, tier), group in groupby(turns, key=lambda each: (each.row_no, each.tier)):
        replies = list(group)
        yield TierVisit(
            tier=tier,
            turns=len(replies),
            first_tokens=replies[0].prompt,
            prompt_tokens=sum(each.prompt for each in replies),
            written_tokens=sum(each.written for each in replies),
            read_tokens=sum(each.read_ for each in replies),
            output_tokens=sum(each.output for each in replies),
            is_start=replies[0].turn == 1,
            escalated=tier < replies[0].ended,
        )

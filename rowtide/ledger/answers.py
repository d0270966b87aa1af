"""Reads accepted answers: those of one run, or the newest answer for each row of a job."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, text

from rowtide.errors import UserMistake, nearest_name
from rowtide.ledger.apis import OF_NEWEST_RUN
from rowtide.ledger.ledger import Ledger, Run, fetch_all, find_run, has_run, is_one_of, list_parameter

IS_ANSWERED = "state IN ('accepted', 'loaded')"
RUNS = "SELECT run_id FROM run WHERE job = :job"


class AcceptedAnswer(NamedTuple):
    """An accepted answer (JSON bytes), with its row, tier, cost in micro-dollars and the versions that produced it."""

    row_no: int
    row_key: str
    row_id: str
    content: bytes
    tier: int
    turn: int
    cost_micro: int
    asking: str
    judging: str
    loaded_at: str | None


def runs_by_name(tx: Connection, name: str) -> list[Run]:
    """Return the run with this id, or else the job's runs on the API of its newest run, newest first.

    Raises UserMistake with the nearest known name when neither exists.
    """
    if has_run(tx, name):
        return [find_run(tx, name)]
    query = text(f"{RUNS} AND api = {OF_NEWEST_RUN} ORDER BY run_no DESC")
    if not (found := tx.execute(query, {"job": name}).scalars().all()):
        known = tx.execute(text("SELECT DISTINCT job FROM run UNION SELECT run_id FROM run LIMIT 1000")).scalars().all()
        raise UserMistake(f"no run and no job {name!r} in this ledger", meant=nearest_name(name, known))
    return [find_run(tx, each) for each in found]


def _page_of(tx: Connection, run: Run, later: Sequence[int], *, after: int, limit: int) -> list[AcceptedAnswer]:
    """Return the run's next answered rows by number, without rows that a run of `later` (run_nos) answered again."""
    newer = f"SELECT 1 FROM row n WHERE n.run_no {is_one_of(tx, 'later')} AND n.row_key = r.row_key AND n.{IS_ANSWERED}"
    query = (
        "SELECT r.row_no, r.row_key, r.row_id, a.content, r.tier, r.turn, r.cost_micro, v.asking, j.judging, l.done_at "
        "FROM row r JOIN answer a ON a.row_no = r.row_no "
        "LEFT JOIN version v ON v.run_no = r.run_no AND v.version_no = r.version_no "
        "LEFT JOIN version j ON j.run_no = r.run_no AND j.version_no = a.version_no "
        f"LEFT JOIN load l ON l.load_no = r.load_no WHERE r.run_no = :run AND r.{IS_ANSWERED} AND r.row_no > :after "
        f"AND NOT EXISTS ({newer}) ORDER BY r.row_no LIMIT :limit"
    )
    values = {"run": run.run_no, "later": list_parameter(list(later)), "after": after, "limit": limit}
    return [AcceptedAnswer(*each) for each in fetch_all(tx, query, values)]


def answer_pages(ledger: Ledger, run: Run, later: Sequence[int], *, size: int) -> Iterator[list[AcceptedAnswer]]:
    """Yield the run's accepted answers in pages of `size`, without rows that a run of `later` answered again."""
    after = 0
    while True:
        with ledger.view() as tx:
            page = _page_of(tx, run, later, after=after, limit=size)
        if not page:
            return
        yield page
        after = page[-1].row_no


def count_purged_answers(tx: Connection, runs: Sequence[Run]) -> int:
    """Count the accepted rows of these runs whose answers were purged."""
    query = text(
        f"SELECT count(*) FROM row r WHERE r.run_no {is_one_of(tx, 'runs')} AND r.{IS_ANSWERED} "
        "AND NOT EXISTS (SELECT 1 FROM answer a WHERE a.row_no = r.row_no)"
    )
    return int(tx.execute(query, {"runs": list_parameter([run.run_no for run in runs])}).scalar_one())


def tier_names(run: Run) -> list[str]:
    """Return the names of the run's tiers, lowest first."""
    return list(orjson.loads(run.tiers))

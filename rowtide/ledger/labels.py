"""Reads what labelling needs of runs: keys worth labelling, and answers that people gave in quarantine."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, text

from rowtide.ledger.ledger import Run, is_one_of, list_parameter

MOST = 20_000  # keys; nobody labels more


class PersonsAnswer(NamedTuple):
    """An answer that a person gave in place of the model's."""

    row_key: str
    answer: dict[str, Any]
    who: str
    run_id: str


def quarantined_keys(tx: Connection, run: Run) -> list[str]:
    """Return the keys of a run's quarantined rows that were asked and not discarded."""
    query = (
        "SELECT row_key FROM row WHERE run_no = :run AND state = 'quarantined' AND turn > 0 "
        "AND reason <> 'discarded' ORDER BY row_no LIMIT :most"
    )
    return list(tx.execute(text(query), {"run": run.run_no, "most": MOST}).scalars())


def disputed_keys(tx: Connection, run: Run) -> list[str]:
    """Return the keys of accepted rows that were escalated or corrected: tiers, checks or self-check disagreed."""
    query = (
        "SELECT r.row_key FROM row r WHERE r.run_no = :run AND r.state IN ('accepted', 'loaded') AND EXISTS "
        "(SELECT 1 FROM note n WHERE n.row_no = r.row_no AND n.move IN ('escalate', 'correct')) "
        "ORDER BY r.row_no LIMIT :most"
    )
    return list(tx.execute(text(query), {"run": run.run_no, "most": MOST}).scalars())


def answers_of_persons(tx: Connection, runs: Sequence[Run]) -> list[PersonsAnswer]:
    """Return the accepted answers that people gave in these runs' quarantine, of each row the newest."""
    query = (
        "SELECT r.row_key, a.content, n.who, u.run_id FROM note n JOIN row r ON r.row_no = n.row_no "
        "JOIN answer a ON a.row_no = r.row_no JOIN run u ON u.run_no = r.run_no AND n.turn = r.turn "
        f"WHERE n.move = 'override_answer' AND r.state IN ('accepted', 'loaded') AND r.run_no {is_one_of(tx, 'runs')} "
        "ORDER BY n.note_no"
    )
    found = tx.execute(text(query), {"runs": list_parameter([run.run_no for run in runs])})
    newest = {key: PersonsAnswer(key, orjson.loads(content), who or "", run_id) for key, content, who, run_id in found}
    return list(newest.values())

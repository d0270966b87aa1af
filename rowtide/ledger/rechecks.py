"""Reads stored answers to be judged again, and records the result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from rowtide.agent.agent import RowAt
from rowtide.ledger.job_versions import IS_OVERRIDDEN, QUARANTINE
from rowtide.ledger.ledger import Run, fetch_all, is_one_of, list_parameter, to_timestamp
from rowtide.ledger.quarantine import Signature, reopen_run
from rowtide.ledger.rows import move_rows, move_rows_alike, write_answers

FAILED = "recheck_failed"  # the reason of a row that was removed from its sink
COLUMNS = ", ".join(f"row.{name}" for name in RowAt._fields)
ANSWERED = "EXISTS (SELECT 1 FROM turn x WHERE x.row_no = row.row_no AND x.turn > row.conversation_from)"
IN_SINK = "EXISTS (SELECT 1 FROM loaded l WHERE l.job = :job AND l.row_no = row.row_no AND l.row_key = row.row_key)"


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A row with an answer that can be judged again."""

    row: RowAt
    state: str
    reason: str
    is_overridden: bool


def stored_answers_page(tx: Connection, run: Run, *, only_loaded: bool, after: int, limit: int) -> list[StoredAnswer]:
    """Return the run's next rows with an answer: loaded, or, unless `only_loaded`, also accepted or quarantined."""
    waiting = f"row.state = 'accepted' OR ({QUARANTINE} AND {ANSWERED})"
    query = (
        f"SELECT {COLUMNS}, row.state, coalesce(row.reason, ''), CASE WHEN {IS_OVERRIDDEN} THEN 1 ELSE 0 END FROM row "
        f"WHERE row.run_no = :run AND row.row_no > :after AND (row.state = 'loaded' AND {IN_SINK}"
        f"{'' if only_loaded else f' OR {waiting}'}) ORDER BY row.row_no LIMIT :limit"
    )
    found = fetch_all(tx, query, {"run": run.run_no, "job": run.job, "after": after, "limit": limit})
    return [StoredAnswer(RowAt._make(each[:-3]), each[-3], each[-2], bool(each[-1])) for each in found]


def reusable_earlier_answers(
    tx: Connection, run: Run, table: str, *, after: int, limit: int
) -> list[tuple[int, StoredAnswer]]:
    """Return the next ready rows whose request equals an earlier run's while their checks differ, so that its answer
    can be judged again instead of asked for: (row_no, the earlier answer).

    `table` says how the row ended there: `loaded` or `unverified`.
    """
    same = (
        "s.job = :job AND s.row_key = mine.row_key AND s.row_id = mine.row_id AND s.asking = :asking AND s.api = :api"
    )
    query = (
        f"SELECT {COLUMNS}, b.number, CASE WHEN {IS_OVERRIDDEN} THEN 1 ELSE 0 END FROM (SELECT mine.row_no number, "
        f"max(s.row_no) theirs FROM row mine JOIN {table} s ON {same} AND s.judging <> :judging "
        "WHERE mine.run_no = :run AND mine.state = 'ready' AND mine.turn = 0 AND mine.row_no > :after "
        "GROUP BY mine.row_no ORDER BY mine.row_no LIMIT :limit) b JOIN row ON row.row_no = b.theirs ORDER BY b.number"
    )
    values = {"run": run.run_no, "job": run.job, "asking": run.asking, "judging": run.judging, "api": run.api}
    found = fetch_all(tx, query, {**values, "after": after, "limit": limit})
    state = {"loaded": "loaded", "unverified": "quarantined"}[table]
    return [(each[-2], StoredAnswer(RowAt._make(each[:-2]), state, "", bool(each[-1]))) for each in found]


def mark_unchanged(tx: Connection, run: Run, row_nos: Sequence[int]) -> None:
    """Mark ready rows unchanged: their answer in the sink passes today's checks and gates."""
    tx.execute(
        text(f"UPDATE row SET state = 'unchanged' WHERE state = 'ready' AND row_no {is_one_of(tx, 'rows')}"),
        {"rows": list_parameter(row_nos)},
    )


def adopt_answers(
    tx: Connection, run: Run, answers: Mapping[int, bytes], theirs: Mapping[int, RowAt], hand: Signature
) -> None:
    """Accept ready rows with an earlier run's answer that passes today (row_no → JSON; row_no → that run's row)."""
    if not answers:
        return
    _note(tx, list(answers), "recheck", "an earlier run's answer to the same question passes today", hand)
    move_rows(tx, "recheck", [{"row_no": n, "tier": theirs[n].tier} for n in answers], "tier = :tier")
    write_answers(tx, run, dict(answers))
    tx.execute(
        text(f"DELETE FROM unverified WHERE job = :job AND row_no {is_one_of(tx, 'rows')}"),
        {"job": run.job, "rows": list_parameter([theirs[n].row_no for n in answers])},
    )


def last_replies(tx: Connection, row_nos: Sequence[int], kind: str) -> dict[int, bytes]:
    """Return the newest reply of a kind in each row's present conversation: row_no → content blocks."""
    query = (
        f"SELECT t.row_no, t.content FROM turn t JOIN row r ON r.row_no = t.row_no "
        f"WHERE t.row_no {is_one_of(tx, 'rows')} "
        "AND t.turn = (SELECT max(s.turn) FROM turn s WHERE s.row_no = t.row_no AND s.kind = :kind "
        "AND s.turn > r.conversation_from)"
    )
    return dict(fetch_all(tx, query, {"rows": list_parameter(row_nos), "kind": kind}))


def accept_stored_answers(tx: Connection, run: Run, answers: Mapping[int, bytes], hand: Signature) -> None:
    """Accept quarantined rows whose answer (row_no → JSON) passes today. They are loaded when the run goes on."""
    rows = list(answers)
    if not rows:
        return
    _note(tx, rows, "recheck", "passes today's checks and gates", hand)
    tx.execute(
        text(f"DELETE FROM unverified WHERE job = :job AND row_no {is_one_of(tx, 'rows')}"),
        {"job": run.job, "rows": list_parameter(rows)},
    )
    move_rows_alike(tx, "recheck", rows, "reason = NULL, load_no = NULL, in_self_check = 0")
    write_answers(tx, run, dict(answers))
    reopen_run(tx, run)


def record_rejudged(tx: Connection, run: Run, row_nos: Sequence[int], judging: str) -> None:
    """Record that loaded rows pass the version `judging`, so that a new run need not judge them again."""
    tx.execute(
        text(f"UPDATE loaded SET judging = :judging WHERE job = :job AND row_no {is_one_of(tx, 'rows')}"),
        {"judging": judging, "job": run.job, "rows": list_parameter(row_nos)},
    )


def parts_of_rows(tx: Connection, run: Run, sink: str, row_nos: Sequence[int]) -> dict[str, set[str]]:
    """Return where rows stand in a sink: part → keys."""
    these = is_one_of(tx, "rows")
    query = f"SELECT part, row_key FROM loaded WHERE job = :job AND sink = :sink AND row_no {these} ORDER BY 1"
    found: dict[str, set[str]] = {}
    for part, key in fetch_all(tx, query, {"job": run.job, "sink": sink, "rows": list_parameter(row_nos)}):
        found.setdefault(part, set()).add(key)
    return found


def quarantine_loaded_rows(
    tx: Connection, run: Run, sink: str, failed: Mapping[int, tuple[str, str]], hand: Signature
) -> None:
    """Quarantine failed rows (row_no → state, detail) that were removed from the sink or were about to be loaded."""
    for state, name in (("loaded", "take_out"), ("accepted", "quarantine")):
        rows = [row_no for row_no, (its, _) in failed.items() if its == state]
        for row_no in rows:
            _note(tx, [row_no], "quarantine", failed[row_no][1], hand)
        move_rows_alike(tx, name, rows, "reason = :reason, load_no = NULL", reason=FAILED)
    tx.execute(
        text(f"DELETE FROM loaded WHERE job = :job AND sink = :sink AND row_no {is_one_of(tx, 'rows')}"),
        {"job": run.job, "sink": sink, "rows": list_parameter(list(failed))},
    )


def runs_in_sink(tx: Connection, job: str, sink: str) -> list[str]:
    """Return the ids of runs whose answers stand in a sink, oldest first."""
    query = text(
        "SELECT u.run_id FROM run u WHERE u.run_no IN (SELECT DISTINCT r.run_no FROM loaded l JOIN row r "
        "ON r.row_no = l.row_no WHERE l.job = :job AND l.sink = :sink) ORDER BY u.run_no"
    )
    return list(tx.execute(query, {"job": job, "sink": sink}).scalars())


def _note(tx: Connection, rows: Sequence[int], move: str, detail: str, hand: Signature) -> None:
    tx.execute(
        text(
            "INSERT INTO note (row_no, turn, move, reason, detail, noted_at, who) SELECT row_no, turn, :move, "
            f"CASE WHEN :move = 'quarantine' THEN '{FAILED}' ELSE coalesce(reason, '') END, :detail, :now, :who "
            f"FROM row WHERE row_no {is_one_of(tx, 'rows')}"
        ),
        {"move": move, "detail": detail, "now": to_timestamp(hand.now), "who": hand.who, "rows": list_parameter(rows)},
    )

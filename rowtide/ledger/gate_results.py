"""Stores what gates found of a run, and reads what they judge: pages of rows, run metrics, the last good run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, text

from rowtide.gates.expectation_verdict import EXAMPLES, ExpectationVerdict
from rowtide.ledger.ledger import (
    Run,
    fetch_all,
    insert_rows,
    is_one_of,
    list_parameter,
    take_advisory_lock,
    to_timestamp,
)
from rowtide.tiers.pricing import MICRO

REASON = "gate"  # the reason of rows that the rows gate quarantined


class JudgedRow(NamedTuple):
    """A row that a gate judges, with its values as JSON."""

    row_no: int
    row_key: str
    state: str
    turn: int
    content: bytes


COLUMNS = list(ExpectationVerdict.__dataclass_fields__)


def record_verdicts(tx: Connection, run: Run, found: Sequence[ExpectationVerdict], *, now: datetime) -> None:
    """Store the verdicts of expectations in place of their earlier ones."""
    places = sorted({(each.gate, each.place) for each in found})
    for gate in sorted({gate for gate, _ in places}):
        these = [place for its, place in places if its == gate]
        tx.execute(
            text(f"DELETE FROM verdict WHERE run_no = :run AND gate = :gate AND place {is_one_of(tx, 'places')}"),
            {"run": run.run_no, "gate": gate, "places": list_parameter(these)},
        )
    insert_rows(tx, "verdict", ["run_no", *COLUMNS], [(run.run_no, *_as_kept(each, now)) for each in found])


def forget_verdicts(tx: Connection, run: Run, gate: str) -> None:
    """Delete a gate's verdicts: its file may have fewer expectations now."""
    tx.execute(text("DELETE FROM verdict WHERE run_no = :run AND gate = :gate"), {"run": run.run_no, "gate": gate})


def add_page_verdicts(tx: Connection, run: Run, found: Sequence[ExpectationVerdict], *, now: datetime) -> None:
    """Add one page's verdicts to those of the pages before."""
    if found:
        take_advisory_lock(tx, f"verdicts {run.run_no}")
    before = {(each.gate, each.place): each for each in gate_verdicts(tx, run)} if found else {}
    record_verdicts(tx, run, [_sum(before.get((each.gate, each.place)), each) for each in found], now=now)


def gate_verdicts(tx: Connection, run: Run) -> list[ExpectationVerdict]:
    """Return the run's verdicts by gate, in the order of the gates' files."""
    order = "CASE gate WHEN 'rows' THEN 1 WHEN 'answers' THEN 2 ELSE 3 END, place"
    query = text(f"SELECT {', '.join(COLUMNS)} FROM verdict WHERE run_no = :run ORDER BY {order}")
    found = tx.execute(query, {"run": run.run_no}).mappings()
    return [ExpectationVerdict(**{name: _as_read(name, each[name]) for name in COLUMNS}) for each in found]


def keys_of_rows(tx: Connection, row_nos: Collection[int]) -> dict[int, str]:
    """Return row_no → row key."""
    query = text(f"SELECT row_no, row_key FROM row WHERE row_no {is_one_of(tx, 'rows')}")
    return dict(tx.execute(query, {"rows": list_parameter(row_nos)}).tuples().all())


def rows_to_judge_page(tx: Connection, run: Run, *, after: int, limit: int) -> list[JudgedRow]:
    """Return the next page of rows that passed admission and must be asked, whatever their state now."""
    refused = f"r.state = 'quarantined' AND r.turn = 0 AND r.reason <> '{REASON}'"
    return _page(tx, run, "row_content", f"r.state <> 'unchanged' AND NOT ({refused})", after, limit)


def accepted_answers_page(tx: Connection, run: Run, *, after: int, limit: int) -> list[JudgedRow]:
    """Return the next page of answers that passed the answers gate, loaded or not."""
    return _page(tx, run, "answer", "r.state IN ('accepted', 'loaded')", after, limit)


def resent_rows(tx: Connection, row_nos: Collection[int]) -> set[int]:
    """Return those of the rows that a person sent again, knowing what the gate found."""
    query = text(f"SELECT DISTINCT row_no FROM note WHERE move = 'retry' AND row_no {is_one_of(tx, 'rows')}")
    return set(tx.execute(query, {"rows": list_parameter(row_nos)}).scalars())


def last_good_run(tx: Connection, run: Run) -> int | None:
    """Return the job's newest earlier run on this API that loaded rows and had no held or rejected gate, or None."""
    query = text(
        "SELECT max(u.run_no) FROM run u WHERE u.job = :job AND u.api = :api AND u.run_no < :run "
        "AND EXISTS (SELECT 1 FROM load l WHERE l.run_no = u.run_no AND l.done_at IS NOT NULL) "
        "AND NOT EXISTS (SELECT 1 FROM gate_approval h WHERE h.run_no = u.run_no AND h.state IN ('asked', 'rejected'))"
    )
    return tx.execute(query, {"job": run.job, "api": run.api, "run": run.run_no}).scalar()


def run_metrics(tx: Connection, run_no: int) -> dict[str, float]:
    """Return the run's counts, shares (0 to 1) and cost in dollars, by metric name."""
    query = text(
        "SELECT state, count(*), sum(CASE WHEN turn > 0 THEN 1 ELSE 0 END), sum(cost_micro), "
        "sum(CASE WHEN reason IS NULL THEN 1 ELSE 0 END) FROM row WHERE run_no = :run GROUP BY state"
    )
    found = {state: (int(a), int(b), int(c), int(d)) for state, a, b, c, d in tx.execute(query, {"run": run_no})}
    count = {state: found.get(state, (0, 0, 0, 0)) for state in ("accepted", "loaded", "quarantined", "unchanged")}
    rows, asked = (sum(each[place] for each in found.values()) for place in (0, 1))
    accepted = count["accepted"][0] + count["loaded"][0]
    return {
        "rows": rows,
        "asked": asked,
        "accepted": accepted,
        "quarantined": count["quarantined"][0],
        "unchanged": count["unchanged"][0],
        "coverage": (accepted + count["unchanged"][3]) / max(rows, 1),
        "accepted_share": accepted / max(asked, 1),
        "cost_usd": sum(each[2] for each in found.values()) / MICRO,
    }


def load_metrics(tx: Connection, run: Run, sink: str) -> dict[str, int]:
    """Return the metrics of a load: how many rows are about to be loaded, how many replace a key, and how many the sink
    has.
    """
    values = {"run": run.run_no, "job": run.job, "sink": sink}
    waiting = "FROM row r WHERE r.run_no = :run AND r.state = 'accepted'"
    there = "EXISTS (SELECT 1 FROM loaded l WHERE l.job = :job AND l.row_key = r.row_key AND l.sink = :sink)"
    to_load = tx.execute(text(f"SELECT count(*) {waiting}"), values).scalar_one()
    replaced = tx.execute(text(f"SELECT count(*) {waiting} AND {there}"), values).scalar_one()
    in_sink = tx.execute(text("SELECT count(*) FROM loaded WHERE job = :job AND sink = :sink"), values).scalar_one()
    return {"to_load": to_load, "new_keys": to_load - replaced, "replaced_keys": replaced, "in_sink": in_sink}


def store_distributions(tx: Connection, run: Run, distributions: Mapping[str, object]) -> None:
    """Store the distributions of the run's column values in place of earlier ones."""
    tx.execute(text("DELETE FROM profile WHERE run_no = :run"), {"run": run.run_no})
    kept = [(run.run_no, name, orjson.dumps(each).decode()) for name, each in distributions.items()]
    insert_rows(tx, "profile", ["run_no", "name", "distribution"], kept)


def stored_distributions(tx: Connection, run_no: int) -> dict[str, Any]:
    """Return column → the distribution of its values in the run's answers."""
    found = tx.execute(text("SELECT name, distribution FROM profile WHERE run_no = :run"), {"run": run_no})
    return {name: orjson.loads(distribution) for name, distribution in found}


def _page(tx: Connection, run: Run, table: str, which: str, after: int, limit: int) -> list[JudgedRow]:
    query = (
        f"SELECT r.row_no, r.row_key, r.state, r.turn, c.content FROM row r JOIN {table} c ON c.row_no = r.row_no "
        f"WHERE r.row_no > :after AND r.row_no <= :last AND {which} ORDER BY r.row_no LIMIT :limit"
    )
    values = {"after": max(after, run.first_row_no), "last": run.last_row_no, "limit": limit}
    return [JudgedRow(*each) for each in fetch_all(tx, query, values)]


def _sum(before: ExpectationVerdict | None, page: ExpectationVerdict) -> ExpectationVerdict:
    if before is None:
        return page
    failed = before.failed + page.failed
    examples = list(dict.fromkeys([*before.examples, *page.examples]))[:EXAMPLES]
    return replace(page, judged=before.judged + page.judged, failed=failed, passed=not failed, examples=examples)


def _as_kept(verdict: ExpectationVerdict, now: datetime) -> tuple[object, ...]:
    passed = None if verdict.passed is None else int(verdict.passed)
    given: dict[str, object] = {"passed": passed, "judged_at": to_timestamp(now)}
    for name in ("kwargs", "observed", "examples"):
        value = getattr(verdict, name)
        given[name] = None if value is None else orjson.dumps(value).decode()
    return tuple(given[name] if name in given else getattr(verdict, name) for name in COLUMNS)


def _as_read(name: str, value: Any) -> Any:
    if name in ("kwargs", "observed", "examples"):
        return None if value is None else orjson.loads(value)
    return bool(value) if name == "passed" and value is not None else value

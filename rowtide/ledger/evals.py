"""Records evals: each is begun once for a question, with its rows, what each look found, and its verdict. `read/evals`
reads them for people.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson
from pydantic import TypeAdapter
from sqlalchemy import Connection, RowMapping, text

from rowtide.evals.eval_plan import EvalPlan
from rowtide.evals.outcome import Arm, ArmAnswer
from rowtide.evals.verdicts import DecisionPrice, Finding, Verdict
from rowtide.ledger.ledger import (
    find_run,
    finish_run,
    from_timestamp,
    has_run,
    insert_rows,
    is_one_of,
    list_parameter,
    take_advisory_lock,
    to_timestamp,
)


class EvalRow(NamedTuple):
    """A golden row of an eval."""

    place: int
    look: int
    """That counts it first; 0 where none does."""
    row_key: str
    row_id: str
    content: bytes
    golden: bytes
    """JSON: answer, group, stratum, pinned, by."""
    is_same: int
    candidate_row: int | None
    incumbent_row: int | None
    found: bytes | None = None


HASH_BYTES = 8
SAME_SET = 0.5  # of a set's keys: where fewer are those of an earlier verdict, it was refreshed
ROW = ("eval_no", "place", *EvalRow._fields[1:-1])
ARMS = TypeAdapter(Arm)
PLANS = TypeAdapter(EvalPlan)


@dataclass(frozen=True)
class Eval:
    """One eval, as its stages need it."""

    eval_no: int
    eval_id: str
    job: str
    api: str
    made_up: int
    part: str
    question: str
    version: str
    may_gate: int
    candidate: Arm
    incumbent: Arm
    plan: EvalPlan
    use_no: int
    budget_micro: int | None
    who: str
    started_at: str
    finished_at: str | None
    verdict: Verdict | None
    reasons: tuple[str, ...]
    price: DecisionPrice | None


def begin(tx: Connection, values: Mapping[str, object], rows: Sequence[EvalRow]) -> Eval:
    """Record an eval with its rows, or return the eval that already has this id."""
    names = ", ".join(values)
    into = f"INSERT INTO eval ({names}) VALUES ({', '.join(':' + name for name in values)})"
    made = tx.execute(text(f"{into} ON CONFLICT (eval_id) DO NOTHING"), dict(values)).rowcount
    begun = get(tx, str(values["eval_id"]))
    if made:
        insert_rows(tx, "eval_row", ROW, [(begun.eval_no, *each[:-1]) for each in rows])
    return begun


def find(tx: Connection, eval_id: str) -> Eval | None:
    """Return the eval with this id, or None."""
    found = tx.execute(text("SELECT * FROM eval WHERE eval_id = :id"), {"id": eval_id}).mappings().first()
    return None if found is None else eval_from(found)


def of_id_or_run(tx: Connection, run_id: str) -> Eval | None:
    """The eval of this id, or the one that a run belongs to; None where there is none."""
    query = text(
        "SELECT e.* FROM eval e WHERE e.eval_id = :id OR e.eval_id = (SELECT r.eval_id FROM run r WHERE r.run_id = :id)"
    )
    found = tx.execute(query, {"id": run_id}).mappings().first()
    return None if found is None else eval_from(found)


def get(tx: Connection, eval_id: str) -> Eval:
    """Return the eval with this id, which must exist."""
    found = find(tx, eval_id)
    assert found is not None, eval_id
    return found


def begun_by_flow_run(tx: Connection, flow_run_id: str | None) -> str | None:
    """The id of the eval that this flow run of Prefect began, or None."""
    query = text("SELECT eval_id FROM eval WHERE flow_run_id = :id ORDER BY eval_no DESC LIMIT 1")
    return None if flow_run_id is None else tx.execute(query, {"id": flow_run_id}).scalar()


def asked(tx: Connection, job: str, question: str) -> Eval | None:
    """Return the newest eval that asks this question, finished or not, or None."""
    query = text("SELECT * FROM eval WHERE job = :job AND question = :question ORDER BY eval_no DESC LIMIT 1")
    found = tx.execute(query, {"job": job, "question": question}).mappings().first()
    return None if found is None else eval_from(found)


def uses(tx: Connection, job: str, api: str, hashes: Collection[bytes]) -> int:
    """Return how many verdicts a set of golden keys has been used for, those under way included: all since more than
    half of its keys were as they are now. One that was invalid before its first look took nothing of the level.
    """
    take_advisory_lock(tx, f"evals {job}")
    query = text(
        "SELECT key_hashes FROM eval e WHERE job = :job AND api = :api AND use_no > 0 AND NOT (coalesce(verdict, '') = "
        "'invalid' AND NOT EXISTS (SELECT 1 FROM eval_look l WHERE l.eval_no = e.eval_no))"
    )
    now, found = set(hashes), 0
    for (kept,) in tx.execute(query, {"job": job, "api": api}):
        before = {kept[at : at + HASH_BYTES] for at in range(0, len(kept), HASH_BYTES)}
        found += len(now & before) > SAME_SET * len(now)
    return found


def drift_checks(tx: Connection, job: str, api: str, version: str) -> int:
    """Return how many drift checks of a version have ended."""
    query = text(
        "SELECT count(*) FROM eval WHERE job = :job AND api = :api AND version = :version AND drift_no > 0 "
        "AND verdict IS NOT NULL"
    )
    return int(tx.execute(query, {"job": job, "api": api, "version": version}).scalar_one())


def last_drift_check(tx: Connection, job: str, api: str) -> datetime | None:
    """Return when the newest drift check of a job began, or None."""
    query = text("SELECT max(started_at) FROM eval WHERE job = :job AND api = :api AND drift_no > 0")
    found = tx.execute(query, {"job": job, "api": api}).scalar()
    return None if found is None else from_timestamp(found)


def rows(tx: Connection, eval_no: int, looks: Collection[int] | None = None) -> list[EvalRow]:
    """Return the rows of an eval in order; with `looks`, only those of these looks."""
    which = "" if looks is None else f"AND look {is_one_of(tx, 'looks')}"
    query = text(f"SELECT {', '.join(EvalRow._fields)} FROM eval_row WHERE eval_no = :eval {which} ORDER BY place")
    found = tx.execute(query, {"eval": eval_no, "looks": list_parameter(list(looks or ()))})
    return [EvalRow(*each) for each in found]


def score(tx: Connection, eval_no: int, found: Mapping[int, tuple[ArmAnswer, ArmAnswer]]) -> None:
    """Record the answers and scores of both versions: place of the row → (candidate, incumbent)."""
    query = text("UPDATE eval_row SET found = :found WHERE eval_no = :eval AND place = :place AND found IS NULL")
    values = [{"eval": eval_no, "place": place, "found": orjson.dumps(both)} for place, both in found.items()]
    if values:
        tx.execute(query, values)


def look(tx: Connection, eval_no: int, number: int, finding: Finding, cost_micro: int, *, now: datetime) -> None:
    """Append the finding of a look."""
    right, harm = finding.right.counts, finding.harm.counts
    found = {
        "right": [right.rows, right.fixed, right.broken],
        "harm": [harm.rows, harm.fixed, harm.broken],
        "alpha": finding.right.alpha,
        "verdict": finding.verdict,
        "reasons": list(finding.reasons),
        "cost_micro": cost_micro,
        "looked_at": to_timestamp(now),
    }
    query = text("INSERT INTO eval_look (eval_no, look, found) VALUES (:eval, :look, :found) ON CONFLICT DO NOTHING")
    tx.execute(query, {"eval": eval_no, "look": number, "found": orjson.dumps(found).decode()})


def finish(
    tx: Connection,
    eval_no: int,
    verdict: Verdict,
    reasons: Sequence[str],
    price: DecisionPrice | None,
    *,
    now: datetime,
) -> None:
    """Record the verdict of an eval, once."""
    query = text(
        "UPDATE eval SET verdict = :verdict, reasons = :reasons, price = :price, finished_at = :now "
        "WHERE eval_no = :eval AND verdict IS NULL"
    )
    priced = orjson.dumps(price).decode() if price else None
    values = {"eval": eval_no, "verdict": verdict, "reasons": orjson.dumps(list(reasons)).decode(), "price": priced}
    tx.execute(query, {**values, "now": to_timestamp(now)})


def certify(tx: Connection, eval_no: int, plan: EvalPlan) -> None:
    """Record the plan of an eval whose judges were certified, or found not to be."""
    query = text("UPDATE eval SET plan = :plan WHERE eval_no = :eval AND verdict IS NULL")
    tx.execute(query, {"eval": eval_no, "plan": orjson.dumps(plan).decode()})


def finish_runs(tx: Connection, run_ids: Collection[str], *, now: datetime) -> None:
    """Record that those of an eval's runs that were begun are over."""
    for run_id in run_ids:
        if has_run(tx, run_id):
            finish_run(tx, find_run(tx, run_id), now=now)


def give_budget(tx: Connection, eval_no: int, micro: int) -> None:
    """Raise an eval's budget to `micro` micro-dollars; a lower one changes nothing."""
    query = text("UPDATE eval SET budget_micro = :micro WHERE eval_no = :eval AND budget_micro < :micro")
    tx.execute(query, {"eval": eval_no, "micro": micro})


def spent_micro(tx: Connection, eval_id: str) -> int:
    """Return what an eval's runs have cost plus what they may yet cost at worst, in micro-dollars."""
    query = text(
        "SELECT coalesce(sum(b.cost_micro + b.reserved_micro), 0) FROM batch b JOIN run r USING (run_no) "
        "WHERE r.eval_id = :id"
    )
    return int(tx.execute(query, {"id": eval_id}).scalar_one())


def run_spent_micro(tx: Connection, run_id: str) -> int:
    """Return what one run of an eval has cost plus what it may yet cost at worst, in micro-dollars; 0
    before it begins.
    """
    query = text(
        "SELECT coalesce(sum(b.cost_micro + b.reserved_micro), 0) FROM batch b JOIN run r USING (run_no) "
        "WHERE r.run_id = :id"
    )
    return int(tx.execute(query, {"id": run_id}).scalar_one())


def eval_from(found: RowMapping) -> Eval:
    """Return the eval of a row of table `eval`."""
    names = (
        "eval_no",
        "eval_id",
        "job",
        "api",
        "made_up",
        "part",
        "question",
        "version",
        "may_gate",
        "use_no",
        "budget_micro",
    )
    return Eval(
        **{name: found[name] for name in (*names, "who", "started_at", "finished_at", "verdict")},
        candidate=ARMS.validate_json(found["candidate"]),
        incumbent=ARMS.validate_json(found["incumbent"]),
        plan=PLANS.validate_json(found["plan"]),
        reasons=tuple(orjson.loads(found["reasons"])),
        price=DecisionPrice(**orjson.loads(found["price"])) if found["price"] else None,
    )

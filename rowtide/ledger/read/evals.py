"""Reads evals for people: their outcomes, and the rows of both versions (arms)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter
from sqlalchemy import Connection, text

from rowtide.errors import UserMistake, nearest_name
from rowtide.evals.golden_rows import Part
from rowtide.evals.judge_candidate import compare_measure
from rowtide.evals.outcome import Arm, ArmAnswer, ArmName, EvalOutcome, LookOutcome, RowOutcome
from rowtide.evals.paired_test import PairedCounts
from rowtide.evals.verdicts import PASSES, Finding, Margins
from rowtide.job.run_id import job_of_evals
from rowtide.ledger.evals import Eval, EvalRow, eval_from, find, rows
from rowtide.ledger.ledger import is_one_of, list_parameter
from rowtide.ledger.permitted_versions import word_on
from rowtide.ledger.routes import COULD_NOT

PARTS: TypeAdapter[Part] = TypeAdapter(Part)
BOTH = TypeAdapter(tuple[ArmAnswer, ArmAnswer])
# A row that was quarantined for another reason says nothing of the version that was asked.
THE_VERSIONS = ", ".join(f"'{each}'" for each in COULD_NOT)


class ArmRow(NamedTuple):
    """A row of an arm, or of an earlier run that stands for one."""

    row_no: int
    row_key: str
    state: str
    reason: str | None
    tier: int | None
    turns: int
    tool_calls: int
    cost_micro: int
    tiers: str
    answer: bytes | None


@dataclass(frozen=True, slots=True)
class Sought:
    """A row whose answer may be known: how it would be asked by a version."""

    row_key: str
    row_id: str
    tier: int
    effort: str | None
    turn_limit: int | None


def read_outcome(tx: Connection, eval_id: str) -> EvalOutcome:
    """Return an eval with all that was found so far. Raises UserMistake with the nearest known id."""
    found = find(tx, eval_id)
    if found is None:
        known = tx.execute(text("SELECT eval_id FROM eval ORDER BY eval_no DESC LIMIT 1000")).scalars().all()
        raise UserMistake(f"no eval {eval_id!r} in this ledger", meant=nearest_name(eval_id, known))
    cost = text("SELECT coalesce(sum(b.cost_micro), 0) FROM batch b JOIN run r USING (run_no) WHERE r.eval_id = :id")
    looks, made = read_looks(tx, found), calls(tx, eval_id)
    return EvalOutcome(
        eval_id=found.eval_id,
        job=found.job,
        part=PARTS.validate_python(found.part),
        candidate=_counted(found.candidate, "candidate", made),
        incumbent=_counted(found.incumbent, "incumbent", made),
        changed=found.plan.changed,
        margins=found.plan.margins,
        level=found.plan.level,
        alpha=found.plan.alpha,
        use=found.use_no,
        level_left=found.plan.level_left,
        planned=found.plan.looks.rows,
        looks=looks,
        verdict=found.verdict,
        reasons=found.reasons,
        price=found.price,
        cost_micro=int(tx.execute(cost, {"id": eval_id}).scalar_one()),
        budget_micro=found.budget_micro,
        is_made_up=bool(found.made_up),
        is_drift=found.plan.is_drift,
        judges=found.plan.judges,
        started_at=found.started_at,
        finished_at=found.finished_at,
        who=found.who,
        override=_override(tx, found),
        rows=tuple(row_outcome(each) for each in rows(tx, found.eval_no) if each.found is not None),
    )


def read_looks(tx: Connection, found: Eval) -> tuple[LookOutcome, ...]:
    """Return what each look of an eval found, in order."""
    query = text("SELECT look, found FROM eval_look WHERE eval_no = :eval ORDER BY look")
    kept = [(number, orjson.loads(each)) for number, each in tx.execute(query, {"eval": found.eval_no})]
    return tuple(
        LookOutcome(number, each["right"][0], _finding(each, found.plan.margins), each["cost_micro"], each["looked_at"])
        for number, each in kept
    )


def row_outcome(row: EvalRow) -> RowOutcome:
    """Return the outcome of a row that was scored."""
    assert row.found is not None
    candidate, incumbent = BOTH.validate_json(row.found)
    known = orjson.loads(row.golden)
    return RowOutcome(
        key=row.row_key,
        look=row.look,
        group=known["group"],
        stratum=known["stratum"],
        is_pinned=known["pinned"],
        known=known["answer"],
        by=known["by"],
        is_same_request=bool(row.is_same),
        candidate=candidate,
        incumbent=incumbent,
    )


def calls(tx: Connection, eval_id: str) -> dict[str, tuple[int, int]]:
    """Return run id → (read-only tool calls made, calls answered from recordings), for each of an eval's runs."""
    query = text(
        "SELECT u.run_id, sum(1 - t.remembered), sum(t.remembered) FROM tool_call t "
        "JOIN row r USING (row_no) JOIN run u USING (run_no) WHERE u.eval_id = :id GROUP BY u.run_id"
    )
    return {run_id: (int(live), int(replayed)) for run_id, live, replayed in tx.execute(query, {"id": eval_id})}


def arm_rows(tx: Connection, row_nos: Collection[int]) -> dict[int, ArmRow]:
    """Return row_no → the row as an eval reads it."""
    return {
        row.row_no: row
        for row in _rows(tx, f"r.row_no {is_one_of(tx, 'rows')}", {"rows": list_parameter(list(row_nos))})
    }


def rows_of_run(tx: Connection, run_no: int) -> list[ArmRow]:
    """Return all rows of one arm's run."""
    return _rows(tx, "r.run_no = :run", {"run": run_no})


def earlier_rows(
    tx: Connection,
    job: str,
    api: str,
    asked: Mapping[str, str],
    sought: Sequence[Sought],
    *,
    since: str,
    is_first: bool = False,
) -> dict[str, int]:
    """Return key → row_no of the newest settled row that a run of the job, or of its evals, asked in the same way.

    `is_first`: the oldest instead of the newest. `asked` is the version: asking, judging, tiers and models. A row that
    a person changed or answered does not count.
    """
    query = text(
        "SELECT r.row_no, r.row_key, r.row_id, t.tier, r.effort, r.turn_limit FROM row r JOIN run u USING (run_no) "
        "JOIN version v ON v.run_no = r.run_no AND v.version_no = r.version_no "
        "JOIN turn t ON t.row_no = r.row_no AND t.turn = 1 "
        "WHERE u.job IN (:job, :evals) AND u.api = :api AND u.tiers = :tiers AND u.models = :models "
        "AND u.started_at >= :since AND v.asking = :asking AND v.judging = :judging "
        f"AND r.row_key {is_one_of(tx, 'keys', kind='text')} "
        "AND (r.state IN ('accepted', 'loaded') AND EXISTS (SELECT 1 FROM answer a WHERE a.row_no = r.row_no) "
        f"OR r.state = 'quarantined' AND r.reason IN ({THE_VERSIONS})) "
        "AND NOT EXISTS (SELECT 1 FROM note n WHERE n.row_no = r.row_no AND n.who IS NOT NULL AND n.who <> 'rowtide') "
        "ORDER BY r.row_no"
    )
    by_key = {each.row_key: each for each in sought}
    names = {"job": job, "evals": job_of_evals(job), "api": api, "since": since, "keys": list_parameter(list(by_key))}
    found: dict[str, int] = {}
    for row_no, key, *how in tx.execute(query, {**names, **asked}):
        each = by_key[key]
        is_so = how == [each.row_id, each.tier, each.effort, each.turn_limit]
        if is_so and not (is_first and key in found):
            found[key] = row_no
    return found


def judged_pairs(tx: Connection, job: str, api: str, asked: Mapping[str, str], pairs: Sequence[str]) -> dict[str, bool]:
    """Return pair → whether a judge called its values the same, of those that it has judged in any of the job's evals.

    `asked` is the judge: asking, judging, tiers and models.
    """
    query = text(
        "SELECT r.row_key, a.content FROM row r JOIN run u USING (run_no) JOIN answer a ON a.row_no = r.row_no "
        "JOIN version v ON v.run_no = r.run_no AND v.version_no = r.version_no "
        "WHERE u.job = :evals AND u.api = :api AND u.tiers = :tiers AND u.models = :models "
        "AND v.asking = :asking AND v.judging = :judging AND r.state = 'accepted' "
        f"AND r.row_key {is_one_of(tx, 'keys', kind='text')} ORDER BY r.row_no DESC"
    )
    names = {"evals": job_of_evals(job), "api": api, "keys": list_parameter(list(pairs)), **asked}
    verdicts = {pair: orjson.loads(content).get("same") for pair, content in tx.execute(query, names)}
    return {pair: same for pair, same in verdicts.items() if isinstance(same, bool)}  # else its text was purged


def tool_outputs(tx: Connection, row_nos: Collection[int]) -> list[tuple[str, bytes, str, str]]:
    """Return the successful tool calls of rows: (tool, arguments, output, when the row's run began)."""
    query = text(
        "SELECT t.tool, t.arguments, t.output, u.started_at FROM tool_call t JOIN row r USING (row_no) "
        f"JOIN run u USING (run_no) WHERE t.row_no {is_one_of(tx, 'rows')} AND t.is_error = 0"
    )
    return [
        (tool, bytes(arguments), out, at)
        for tool, arguments, out, at in tx.execute(query, {"rows": list_parameter(list(row_nos))})
    ]


def last_passed(tx: Connection, job: str, api: str) -> Eval | None:
    """Return the newest eval whose candidate passed, or None."""
    passing = ", ".join(f"'{each}'" for each in sorted(PASSES))
    query = text(
        "SELECT * FROM eval WHERE job = :job AND api = :api AND part = 'confirm' AND may_gate = 1 "
        f"AND verdict IN ({passing}) ORDER BY eval_no DESC LIMIT 1"
    )
    found = tx.execute(query, {"job": job, "api": api}).mappings().first()
    return None if found is None else eval_from(found)


def _override(tx: Connection, found: Eval) -> str | None:
    """Who let the candidate run although it did not pass, and why."""
    word = None if found.verdict in PASSES else word_on(tx, found.job, found.version)
    if word is None:
        return None
    done = "let it run all the same" if word.decision == "run" else "stopped it"
    return f"{word.who} {done}: {word.why} ({word.decided_at[:19]} UTC)"


def _counted(arm: Arm, name: ArmName, made: Mapping[str, tuple[int, int]]) -> Arm:
    """The arm with the calls of its runs."""
    mine = [each for run_id, each in made.items() if run_id.endswith(f"-{name}")]
    return replace(arm, live_calls=sum(live for live, _ in mine), replayed_calls=sum(back for _, back in mine))


def _rows(tx: Connection, which: str, values: Mapping[str, Any]) -> list[ArmRow]:
    query = text(
        "SELECT r.row_no, r.row_key, r.state, r.reason, r.tier, r.turn, "
        "(SELECT count(*) FROM tool_call t WHERE t.row_no = r.row_no), r.cost_micro, u.tiers, a.content FROM row r "
        f"JOIN run u USING (run_no) LEFT JOIN answer a ON a.row_no = r.row_no WHERE {which}"
    )
    return [ArmRow(*each) for each in tx.execute(query, values)]


def _finding(kept: Mapping[str, Any], margins: Margins) -> Finding:
    right = compare_measure(PairedCounts(*kept["right"]), margins.right, kept["alpha"])
    harm = compare_measure(PairedCounts(*kept["harm"]), margins.harm, kept["alpha"])
    return Finding(kept["verdict"], right, harm, tuple(kept["reasons"]))

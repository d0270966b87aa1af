"""A look: what both versions made of the rows so far, and what that proves."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from rowtide.agent.outcome_policies import ERRORS, RESULTS, Do
from rowtide.agent.states import RowState
from rowtide.errors import RowtideError, RunStopped
from rowtide.evals.comparers import Comparer
from rowtide.evals.eval_plan import EvalPlan
from rowtide.evals.golden_rows import GoldenRow
from rowtide.evals.job_golden import comparers_of_job
from rowtide.evals.judge_candidate import judge_candidate
from rowtide.evals.outcome import EXTRA, ArmAnswer, ArmName, RowOutcome, pairs_of
from rowtide.evals.planning import price_of_deciding
from rowtide.evals.scores import score_row
from rowtide.evals.verdicts import DecisionPrice, Finding
from rowtide.job.job_folder import load_job
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.evals import Eval, EvalRow
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read import evals as read_evals
from rowtide.ledger.read.evals import ArmRow
from rowtide.text_format import format_usd
from rowtide.tiers.pricing import MICRO

LOADED = ("accepted", "loaded")
# Trouble of the world's, that no repetition ended: nobody knows what the version would have answered.
WORLD = {policy.reason for policy in (*ERRORS.values(), *RESULTS.values()) if policy.do is Do.SEND_AGAIN}
NOT_ASKED = ArmAnswer(None, "none", {}, None, "not asked: both versions send the same bytes", "", 0, 0, 0, False)
DRIFTED = "the same version answers worse than it did: the model behind its name has changed, or what its tools read"
FIRST = "the first version: there is none that it could be compared with"


def run_of(found: Eval, look: int, arm: ArmName) -> str:
    """The id of the run that asks a look's rows of an arm."""
    return f"{found.eval_id}-{look}-{arm}"


def looks_of(look: int) -> tuple[int, ...]:
    """Whose rows are asked with a look: its own; and those that none counts with the first."""
    return (EXTRA, 1) if look == 1 else (look,)


def judge_look(ledger: Ledger, eval_id: str, *, now: datetime) -> bool:
    """Score the rows of the next look and judge all so far. Returns whether another look follows.

    Raises RunStopped where rows of it are still to be asked: a budget, or a person, stands before them.
    """
    with ledger.view() as tx:
        found = ledger_evals.get(tx, eval_id)
        before = read_evals.read_looks(tx, found)
    look = len(before) + 1
    _score(ledger, found, look)
    with ledger.view() as tx:
        rows = [read_evals.row_outcome(each) for each in ledger_evals.rows(tx, found.eval_no, range(look + 1))]
        spent = ledger_evals.spent_micro(tx, eval_id)
    finding, plan = _finding(found.plan, rows), found.plan
    is_last = look == len(plan.looks.rows) or finding.verdict != "undecided" or plan.is_first
    with ledger.page() as tx:
        ledger_evals.look(tx, found.eval_no, look, finding, spent, now=now)
        for run_id in (run_of(found, look, arm) for arm in ("candidate", "incumbent")):
            if ledgers.has_run(tx, run_id):
                ledgers.finish_run(tx, ledgers.find_run(tx, run_id), now=now)
        if is_last:
            price = _price(plan, finding, rows) if finding.verdict == "undecided" else None
            reasons = [*finding.reasons, *([FIRST] if plan.is_first else [])]
            reasons += [DRIFTED] if plan.is_drift and finding.verdict == "worse" else []
            ledger_evals.finish(tx, found.eval_no, finding.verdict, reasons, price, now=now)
    return not is_last


def _finding(plan: EvalPlan, rows: Sequence[RowOutcome]) -> Finding:
    pairs = pairs_of(row for row in rows if row.look != EXTRA)
    failed = list(_failed(plan, rows))
    finding = judge_candidate(
        pairs.right, pairs.harm, plan.looks.alpha, plan.margins, failed=failed, problems=pairs.problems
    )
    if plan.is_first and finding.verdict == "undecided":  # of itself it cannot be worse
        return Finding("not_worse", finding.right, finding.harm, finding.reasons)
    return finding


def _failed(plan: EvalPlan, rows: Sequence[RowOutcome]) -> Iterator[str]:
    """The conditions that no statistics weigh up and that the candidate fails, in words."""
    known = [row for row in rows if row.candidate.row_no is not None]
    for row in known:
        if row.is_pinned and row.candidate.score != "right":
            wrong = ", ".join(name for name, agrees in row.candidate.fields.items() if not agrees)
            yield f"the pinned row {row.key!r} is not right: {wrong or row.candidate.reason or row.candidate.score}"
    right = Counter(row.group for row in known if row.candidate.score == "right")
    asked = Counter(row.group for row in known)
    for group, floor in plan.floors.items():
        if asked[group] >= plan.least_group_rows and right[group] < floor * asked[group]:
            yield f"{right[group]} of {asked[group]} rows of {group!r} are right, under its floor of {floor:.0%}"
    accepted = sum(row.candidate.answer is not None for row in known)
    cost, ceiling = sum(row.candidate.cost_micro for row in known), plan.cost_per_accepted_micro
    if ceiling is not None and known and cost > ceiling * accepted:
        each = format_usd(cost / MICRO / accepted) if accepted else f"{format_usd(cost / MICRO)} for none"
        yield f"an accepted row costs {each}, over the ceiling of {format_usd(ceiling / MICRO)}"


def _price(plan: EvalPlan, finding: Finding, rows: Sequence[RowOutcome]) -> DecisionPrice | None:
    """What it would take to decide. A row costs what those of this eval cost, in both arms."""
    asked = [row for row in rows if not row.is_same_request]
    cost = sum(row.candidate.cost_micro + row.incumbent.cost_micro for row in asked)
    seen = [(finding.right.counts, plan.margins.right), (finding.harm.counts, plan.margins.harm)]
    return price_of_deciding(seen, plan.looks.alpha, round(cost / len(asked)) if asked else 0)


def _score(ledger: Ledger, found: Eval, look: int) -> None:
    """Score the look's rows in both arms, once."""
    arms = {"candidate": found.candidate, "incumbent": found.incumbent}
    comparers = comparers_of_job(load_job(Path(arms[found.plan.settings_of].folder)))
    with ledger.view() as tx:
        rows = [row for row in ledger_evals.rows(tx, found.eval_no, looks_of(look)) if row.found is None]
        earlier = [each for row in rows for each in (row.candidate_row, row.incumbent_row) if each is not None]
        known = read_evals.arm_rows(tx, earlier)
        answered: dict[ArmName, dict[str, ArmRow]] = {}
        for arm in ("candidate", "incumbent"):
            run_id = run_of(found, look, arm)
            run = ledgers.find_run(tx, run_id) if ledgers.has_run(tx, run_id) else None
            answered[arm] = {each.row_key: each for each in read_evals.rows_of_run(tx, run.run_no)} if run else {}
            _check_over(found, run and run.stopped, answered[arm].values())
    scored: dict[int, tuple[ArmAnswer, ArmAnswer]] = {}
    for row in rows:
        incumbent = _answer(row, row.incumbent_row, known, answered["incumbent"], comparers)
        candidate = _answer(row, row.candidate_row, known, answered["candidate"], comparers)
        scored[row.place] = (incumbent if row.is_same else candidate, incumbent)
    with ledger.page() as tx:
        ledger_evals.score(tx, found.eval_no, scored)


def _check_over(found: Eval, stopped: str | None, rows: Any) -> None:
    """Raise what keeps rows of an arm from being settled."""
    waiting = Counter(row.state for row in rows if row.state not in (*LOADED, RowState.QUARANTINED.value))
    if not waiting:
        return
    left = ", ".join(f"{count:,} {state}" for state, count in waiting.items())
    if stopped in ("budget", "day_budget"):
        words = f"eval {found.eval_id} stopped at the {stopped.replace('_', ' ')} with rows left: {left}"
        raise RunStopped(f"{words}; `rowtide resume {found.eval_id} --budget MORE` goes on")
    why = f" ({stopped})" if stopped else ""
    raise RowtideError(
        f"eval {found.eval_id} stopped with rows left{why}: {left}; `rowtide resume {found.eval_id}` goes on"
    )


def _answer(
    row: EvalRow,
    before: int | None,
    known: Mapping[int, ArmRow],
    answered: Mapping[str, ArmRow],
    comparers: Mapping[str, Comparer],
) -> ArmAnswer:
    found = known[before] if before is not None else answered.get(row.row_key)
    if found is None:
        return NOT_ASKED if row.is_same else replace(NOT_ASKED, score="unscored", reason="missing")
    kept = orjson.loads(row.golden)
    answer = orjson.loads(found.answer) if found.answer is not None and found.state in LOADED else None
    golden = GoldenRow(row.row_key, kept["answer"], 0)
    scored = score_row(golden, answer, comparers, is_loaded=found.state in LOADED)
    names: list[str] = orjson.loads(found.tiers)
    return ArmAnswer(
        row_no=found.row_no,
        score="unscored" if found.state not in LOADED and found.reason in WORLD else scored.score,
        fields=scored.fields,
        answer=answer,
        reason=found.reason,
        tier="" if found.tier is None else names[found.tier],
        turns=found.turns,
        tool_calls=found.tool_calls,
        cost_micro=found.cost_micro,
        is_from_before=before is not None,
        failures=tuple(each.words for each in scored.failures),
    )

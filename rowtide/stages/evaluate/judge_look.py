"""A look: what both versions made of the rows so far, and what that proves."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import orjson

from rowtide.agent.outcome_policies import ERRORS, RESULTS, Do
from rowtide.evals.comparers import Comparer
from rowtide.evals.eval_plan import EvalPlan
from rowtide.evals.golden_rows import GoldenRow
from rowtide.evals.job_golden import comparers_of_job
from rowtide.evals.judge_candidate import judge_candidate
from rowtide.evals.judged_pairs import Judgements
from rowtide.evals.outcome import EXTRA, ArmAnswer, ArmName, RowOutcome, pairs_of
from rowtide.evals.planning import price_of_deciding
from rowtide.evals.scores import score_row
from rowtide.evals.verdicts import DecisionPrice, Finding
from rowtide.job.job_folder import load_job
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger.evals import Eval, EvalRow
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read import evals as read_evals
from rowtide.stages.evaluate.ask_judges import certify_judges, judge_run_of, judgements, pair_runs
from rowtide.stages.evaluate.look_answers import ARMS, LOADED, LookAnswers, read_look, run_of
from rowtide.stages.evaluate.look_runs import ArmRun
from rowtide.text_format import format_usd
from rowtide.tiers.pricing import MICRO

# Trouble of the world's, that no repetition ended: nobody knows what the version would have answered.
WORLD = {policy.reason for policy in (*ERRORS.values(), *RESULTS.values()) if policy.do is Do.SEND_AGAIN}
NOT_ASKED = ArmAnswer(None, "none", {}, None, "not asked: both versions send the same bytes", "", 0, 0, 0, False)
DRIFTED = "the same version answers worse than it did: the model behind its name has changed, or what its tools read"
FIRST = "the first version: there is none that it could be compared with"


def judge_look(ledger: Ledger, home: Path, eval_id: str, *, now: datetime) -> list[ArmRun]:
    """Score the rows of the next look and judge all so far. Returns the runs that must ask a judge first: then nothing
    is scored yet. Before the first look, judges are certified.

    Raises RunStopped where rows of it are still to be asked: a budget, or a person, stands before them.
    """
    with ledger.view() as tx:
        found = ledger_evals.get(tx, eval_id)
        before = read_evals.read_looks(tx, found)
    if found.plan.is_to_be_certified:
        certify_judges(ledger, found, now=now)
        return []
    look = len(before) + 1
    answers = read_look(ledger, found, look)
    if runs := pair_runs(ledger, home, found, look, answers):
        return runs
    _score(ledger, found, look, answers)
    _conclude(ledger, found, look, now)
    return []


def _conclude(ledger: Ledger, found: Eval, look: int, now: datetime) -> None:
    """Judge all that was scored so far."""
    with ledger.view() as tx:
        rows = [read_evals.row_outcome(each) for each in ledger_evals.rows(tx, found.eval_no, range(look + 1))]
        spent = ledger_evals.spent_micro(tx, found.eval_id)
    finding, plan = _finding(found.plan, rows), found.plan
    is_last = look == len(plan.looks.rows) or finding.verdict != "undecided" or plan.is_first
    with ledger.page() as tx:
        ledger_evals.look(tx, found.eval_no, look, finding, spent, now=now)
        of_judges = (judge_run_of(found, look, each) for each in found.plan.judges)
        ledger_evals.finish_runs(tx, [*(run_of(found, look, arm) for arm in ARMS), *of_judges], now=now)
        if is_last:
            price = _price(plan, finding, rows) if finding.verdict == "undecided" else None
            reasons = [*finding.reasons, *([FIRST] if plan.is_first else [])]
            reasons += [DRIFTED] if plan.is_drift and finding.verdict == "worse" else []
            ledger_evals.finish(tx, found.eval_no, finding.verdict, reasons, price, now=now)


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


def _score(ledger: Ledger, found: Eval, look: int, answers: LookAnswers) -> None:
    """Score the look's rows in both arms, once."""
    settings = found.candidate if found.plan.settings_of == "candidate" else found.incumbent
    of_code = comparers_of_job(load_job(Path(settings.folder)))
    comparers: dict[str, Comparer | Judgements] = {**of_code, **judgements(ledger, found, look, answers)}
    scored: dict[int, tuple[ArmAnswer, ArmAnswer]] = {}
    for row in answers.rows:
        incumbent = _answer(row, "incumbent", answers, comparers)
        candidate = _answer(row, "candidate", answers, comparers)
        scored[row.place] = (incumbent if row.is_same else candidate, incumbent)
    with ledger.page() as tx:
        ledger_evals.score(tx, found.eval_no, scored)


def _answer(
    row: EvalRow, arm: ArmName, answers: LookAnswers, comparers: Mapping[str, Comparer | Judgements]
) -> ArmAnswer:
    found, before = answers.of(row, arm), row.candidate_row if arm == "candidate" else row.incumbent_row
    if found is None:
        return NOT_ASKED if row.is_same else replace(NOT_ASKED, score="unscored", reason="missing")
    answer = answers.answer_of(row, arm)
    golden = GoldenRow(row.row_key, orjson.loads(row.golden)["answer"], 0)
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

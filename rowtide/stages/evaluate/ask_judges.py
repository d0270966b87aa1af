"""What judges are asked in an eval: first the pairs that people labelled, then the pairs of each look.

A judge is a job of its own, whose rows are pairs of values. So it is asked in batches, within the eval's budget, and
gone on with after a crash; and a pair that the ledger has a verdict of is not asked again.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import orjson

from rowtide.evals.comparers import is_same_text
from rowtide.evals.judged_pairs import Judgements, pair_row
from rowtide.evals.judges import Certificate, FieldJudge, share_kept
from rowtide.evals.planning import explain_too_few_rows
from rowtide.evals.verdicts import Margins
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.evals import Eval
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read import evals as read_evals
from rowtide.stages.evaluate.look_answers import ARMS, LookAnswers, settled_rows
from rowtide.stages.evaluate.look_runs import ArmRun, budget_of, write_rows
from rowtide.stages.evaluate.write_judge import LABELS_FILE

Pairs = Mapping[str, bytes]  # by `pair_hash`: the pair as a row of the judge's job, in JSON
OF_LABELS = 0  # the look, in the id of a run, of pairs that people labelled


def judge_run_of(found: Eval, look: int, judge: FieldJudge) -> str:
    """The id of the run that asks a judge about a look's pairs."""
    return f"{found.eval_id}-{look}-judge{found.plan.judges.index(judge) + 1}"


def label_runs(ledger: Ledger, home: Path, found: Eval) -> list[ArmRun]:
    """The runs that ask judges about pairs that people labelled and the ledger has no verdict of."""
    return _runs(ledger, home, found, OF_LABELS, {each.field: _labelled(each) for each in found.plan.judges})


def pair_runs(ledger: Ledger, home: Path, found: Eval, look: int, answers: LookAnswers) -> list[ArmRun]:
    """The runs that ask judges about pairs of a look that the ledger has no verdict of, where they are not begun."""
    runs = _runs(ledger, home, found, look, {each.field: _pairs(answers, each.field) for each in found.plan.judges})
    with ledger.view() as tx:
        return [each for each in runs if not ledgers.has_run(tx, each.run_id)]


def unfinished_runs(ledger: Ledger, home: Path, found: Eval, look: int) -> list[ArmRun]:
    """The runs about a look's pairs that an earlier process began."""
    with ledger.view() as tx:
        begun = [each for each in found.plan.judges if ledgers.has_run(tx, judge_run_of(found, look, each))]
    return [_run(ledger, home, found, look, each) for each in begun]


def judgements(ledger: Ledger, found: Eval, look: int, answers: LookAnswers) -> dict[str, Judgements]:
    """Return field → what its judge said of the look's pairs. Raises RunStopped where pairs are still to be asked."""
    return {
        each.field: Judgements(_verdicts(ledger, found, look, each, _pairs(answers, each.field)))
        for each in found.plan.judges
    }


def certify_judges(ledger: Ledger, found: Eval, *, now: datetime) -> None:
    """Certify the judges by what they said of labelled pairs. One that is not certified makes the eval invalid, before
    a version is asked; so does a set that is too small for judges that err so often.
    """
    judges = tuple(
        each.certified(_verdicts(ledger, found, OF_LABELS, each, _labelled(each))) for each in found.plan.judges
    )
    certificates = [each.certificate for each in judges if each.certificate is not None]
    reasons = [_refusal(each) for each in judges if each.certificate is not None and not each.certificate.is_certified]
    plan = found.plan
    if not reasons:
        margins = _narrowed(plan.margins, certificates)
        plan = replace(plan, margins=margins)
        is_tested = not (plan.is_first or plan.is_drift)
        sizes = (
            explain_too_few_rows(plan.looks.last, each, plan.looks.alpha) for each in (margins.right, margins.harm)
        )
        reasons = [f"margins are narrower where a judge errs: {each}" for each in sizes if each and is_tested][:1]
    with ledger.page() as tx:
        ledger_evals.certify(tx, found.eval_no, replace(plan, judges=judges))
        ledger_evals.finish_runs(tx, [judge_run_of(found, OF_LABELS, each) for each in found.plan.judges], now=now)
        if reasons:
            ledger_evals.finish(tx, found.eval_no, "invalid", reasons, None, now=now)


def _narrowed(margins: Margins, certificates: list[Certificate]) -> Margins:
    """What is left of margins as judges see them: they overlook some of what a version is worse by."""
    kept = min((share_kept(each) for each in certificates), default=1.0)
    return Margins(*(max(math.floor(1e4 * each * kept), 1) / 1e4 for each in (margins.right, margins.harm)))


def _refusal(judge: FieldJudge) -> str:
    found = judge.certificate
    assert found is not None
    counts = found.counts
    return (
        f"the judge of {judge.field} ({judge.tier}) is not certified: people and it call {counts.good_passed} of "
        f"{counts.good} pairs the same and {counts.bad_failed} of {counts.bad} different, which shows at least "
        f"{found.tpr_bound:.0%} and {found.tnr_bound:.0%} of them right, and both must be 80%; mend its rubric, take a "
        "better tier, or label more pairs"
    )


def _labelled(judge: FieldJudge) -> Pairs:
    lines = (Path(judge.folder) / LABELS_FILE).read_bytes().splitlines()
    return {orjson.loads(line)["pair"]: line for line in lines if line}


def _pairs(answers: LookAnswers, field: str) -> Pairs:
    """The pairs of a look that only a judge can compare."""
    found: dict[str, bytes] = {}
    for row in answers.rows:
        known = orjson.loads(row.golden)["answer"].get(field)
        for arm in ARMS:
            answer = answers.answer_of(row, arm)
            answered = None if answer is None else answer.get(field)
            if known is not None and answered is not None and not is_same_text(known, answered):
                pair = pair_row(known, answered)
                found[pair["pair"]] = orjson.dumps(pair)
    return found


def _verdicts(ledger: Ledger, found: Eval, look: int, judge: FieldJudge, pairs: Pairs) -> dict[str, bool]:
    settled_rows(ledger, found, judge_run_of(found, look, judge))
    with ledger.view() as tx:
        return read_evals.judged_pairs(tx, found.job, found.api, judge.asked, list(pairs))


def _runs(ledger: Ledger, home: Path, found: Eval, look: int, pairs: Mapping[str, Pairs]) -> list[ArmRun]:
    runs: list[ArmRun] = []
    for judge in found.plan.judges:
        mine = pairs[judge.field]
        with ledger.view() as tx:
            known = read_evals.judged_pairs(tx, found.job, found.api, judge.asked, list(mine))
        if unknown := [row for pair, row in mine.items() if pair not in known]:
            run = _run(ledger, home, found, look, judge)
            if not (file := Path(run.source)).is_file():  # once: a run goes on with the rows that it began with
                write_rows(file, unknown)
            runs.append(run)
    return runs


def _run(ledger: Ledger, home: Path, found: Eval, look: int, judge: FieldJudge) -> ArmRun:
    run_id = judge_run_of(found, look, judge)
    file = home / "evals" / found.eval_id / f"{run_id.removeprefix(found.eval_id)[1:]}.jsonl"
    return ArmRun(run_id, judge.folder, str(file), [judge.tier], found.plan.lane, budget_of(ledger, found, run_id))

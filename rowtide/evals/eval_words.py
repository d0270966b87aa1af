"""Formats an eval's outcome as text, JSON and JUnit: for a terminal, for a program, and for a CI server."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from rowtide.evals.judged_rates import JudgedRate, judged_rates
from rowtide.evals.judges import FieldJudge, share_kept
from rowtide.evals.outcome import ArmAnswer, ArmName, EvalOutcome, RowOutcome, by_field, by_group
from rowtide.evals.paired_test import tango_interval
from rowtide.evals.verdicts import PASSES, Comparison, DecisionPrice
from rowtide.text_format import format_usd
from rowtide.tiers.pricing import MICRO

SAYS = {
    "better": "better: more rows right, and not worse in anything",
    "not_worse": "not worse",
    "worse": "worse",
    "undecided": "undecided: neither shown to be worse, nor not to be",
    "invalid": "invalid: the two cannot be compared",
}
DRIFT = {
    "better": "no drift: it answers better than it did",
    "not_worse": "no drift",
    "worse": "drifted: it answers worse than it did",
    "undecided": "no drift is shown, nor that there is none",
    "invalid": SAYS["invalid"],
}
SHOWN_ROWS = 10


def as_text(outcome: EvalOutcome) -> list[str]:
    """Return the eval as lines of text, the verdict first."""
    lines = [verdict_line(outcome)]
    lines += [f"  because {each}" for each in outcome.reasons]
    lines += [f"override   {outcome.override}"] if outcome.override else []
    lines += [
        f"candidate  {outcome.candidate.label}",
        f"incumbent  {outcome.incumbent.label}",
        f"differ in  {', '.join(outcome.changed) or 'nothing'}",
    ]
    lines += [f"judge      {each}" for each in judge_lines(outcome)]
    if outcome.looks:
        lines += list(_measures(outcome))
    if outcome.price:
        lines.append(price_line(outcome.price))
    if outcome.use:
        left = f"{100 * outcome.level_left:.2g} of {100 * outcome.level:g} points of its level are left"
        lines.append(f"set        verdict {outcome.use} on these golden rows; {left}")
    return [*lines, *_rows(outcome)]


def judge_lines(outcome: EvalOutcome) -> list[str]:
    """Return what is proven of each judge, and what it found of both versions."""
    proven = [_certificate(each) for each in outcome.judges if each.certificate]
    return proven + [_judged(each) for each in judged_rates(outcome) if each.judged]


def verdict_line(outcome: EvalOutcome) -> str:
    """Return the verdict in one sentence."""
    if outcome.verdict is None:
        return f"eval {outcome.eval_id} goes on: {len(outcome.looks)} of {len(outcome.planned)} looks are done"
    made_up = " (of made-up answers)" if outcome.is_made_up else ""
    rows = f" after {outcome.looks[-1].rows} rows, at look {len(outcome.looks)}" if outcome.looks else ""
    says = DRIFT if outcome.is_drift else SAYS
    return f"{says[outcome.verdict]}{made_up}{rows}; it cost {format_usd(outcome.cost_micro / MICRO)}"


def price_line(price: DecisionPrice) -> str:
    """Return a line that says how many more rows, labels and dollars a verdict would take."""
    return (
        f"to decide  about {price.rows:,} more golden rows, {format_usd(price.cost_micro / MICRO)}; the answer must be "
        f"known of {price.labels:,} of them: those on which the two differ"
    )


def as_json(outcome: EvalOutcome) -> dict[str, Any]:
    """Return the eval as one JSON-ready object; shares are from 0 to 1, money is in US dollars."""
    last = outcome.looks[-1].finding if outcome.looks else None
    return {
        "eval_id": outcome.eval_id,
        "job": outcome.job,
        "verdict": outcome.verdict,
        "passes": outcome.verdict in PASSES,
        "reasons": list(outcome.reasons),
        "part": outcome.part,
        "is_drift": outcome.is_drift,
        "candidate": outcome.candidate.label,
        "incumbent": outcome.incumbent.label,
        "changed": list(outcome.changed),
        "rows": len(outcome.counted),
        "look": len(outcome.looks),
        "planned_looks": list(outcome.planned),
        "right": _as_json(last.right) if last else None,
        "harm": _as_json(last.harm) if last else None,
        "level": outcome.level,
        "alpha": outcome.alpha,
        "use": outcome.use,
        "level_left": outcome.level_left,
        "price": None if outcome.price is None else _priced(outcome.price),
        "cost_usd": outcome.cost_micro / MICRO,
        "fixed": [row.key for row in outcome.fixed],
        "broken": [row.key for row in outcome.broken],
        "asked_once": sum(row.is_same_request for row in outcome.rows),
        "live_calls": outcome.candidate.live_calls + outcome.incumbent.live_calls,
        "replayed_calls": outcome.candidate.replayed_calls + outcome.incumbent.replayed_calls,
        "arms": {name: arm_figures(outcome, name) for name in ("candidate", "incumbent")},
        "judges": [_judge_as_json(outcome, each) for each in outcome.judges],
        "is_made_up": outcome.is_made_up,
    }


def arm_figures(outcome: EvalOutcome, name: ArmName) -> dict[str, Any]:
    """Return the figures of one version on the counted rows: how the rows ended, and what the rows that were asked
    cost.
    """
    answers = [answer_of(row, name) for row in outcome.counted]
    asked = [each for each in answers if each.row_no is not None]
    return {
        **{score: sum(each.score == score for each in asked) for score in ("right", "harm", "none", "unscored")},
        "rows": len(asked),
        "from_ledger": sum(each.is_from_before for each in asked),
        "cost_per_row_usd": sum(each.cost_micro for each in asked) / MICRO / len(asked) if asked else None,
        "turns_per_row": sum(each.turns for each in asked) / len(asked) if asked else None,
    }


def answer_of(row: RowOutcome, name: ArmName) -> ArmAnswer:
    """Return the answer of the arm `name` to a row."""
    return row.candidate if name == "candidate" else row.incumbent


def as_junit(outcome: EvalOutcome) -> bytes:
    """Return the eval as JUnit XML: a test for the verdict, one for each measure, and one for each pinned row."""
    tests = list(_tests(outcome))
    failed = sum(words is not None for _, words in tests)
    suite = ElementTree.Element(
        "testsuite", name=f"rowtide eval {outcome.job}", tests=str(len(tests)), failures=str(failed)
    )
    for name, words in tests:
        case = ElementTree.SubElement(suite, "testcase", classname=outcome.job, name=name)
        if words is not None:
            ElementTree.SubElement(case, "failure", message=_clean(words)).text = _clean(words)
    output = ElementTree.SubElement(suite, "system-out")
    output.text = _clean("\n".join(as_text(outcome)))
    return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)


def _clean(text: str) -> str:
    """XML takes no control characters, however they are written."""
    legal = "".join(each if each in "\t\n" or each >= " " else "\ufffd" for each in text)
    return legal.encode(errors="replace").decode()


def _tests(outcome: EvalOutcome) -> Iterator[tuple[str, str | None]]:
    """Each test's name, and why it fails."""
    passes = outcome.verdict in PASSES
    yield "the verdict", None if passes else "; ".join([verdict_line(outcome), *outcome.reasons])
    if outcome.looks:
        finding = outcome.looks[-1].finding
        for name, each in (("right", finding.right), ("harm", finding.harm)):
            yield f"{name} is not worse by {_points(each.margin)}", None if each.is_not_worse else _measure(name, each)
    for row in outcome.rows:
        if row.is_pinned and row.candidate.row_no is not None:
            is_right = row.candidate.score == "right"
            yield f"pinned row {row.key}", None if is_right else f"{row.candidate.score}: {row.candidate.reason or ''}"


def _measures(outcome: EvalOutcome) -> Iterator[str]:
    finding = outcome.looks[-1].finding
    yield _measure("right", finding.right)
    yield _measure("harm", finding.harm)
    for name in ("candidate", "incumbent"):
        each = arm_figures(outcome, name)
        if each["rows"]:
            cost = f"{format_usd(each['cost_per_row_usd'])} and {each['turns_per_row']:.1f} turns a row"
            found = f"{each['right']} right, {each['harm']} harm, {each['none'] + each['unscored']} without an answer"
            yield f"{name}  of {each['rows']} rows: {found}; {cost}; {each['from_ledger']} known before"
    if (same := sum(row.is_same_request for row in outcome.counted)) and outcome.changed:
        yield f"same       {same} of {len(outcome.counted)} rows are asked alike by both, so they differ in nothing"
    for kind, found in (("field", by_field(outcome.counted)), ("group", by_group(outcome.counted))):
        for name, result in found.items():
            if result.fixed or result.broken:
                low, high = tango_interval(result.counts)
                between = f"{_signed(low)} to {_signed(high)} points"
                yield f"  {kind} {name or '(none)'}: {result.fixed} better, {result.broken} worse; {between}"


def _measure(name: str, each: Comparison) -> str:
    counts, bound = each.counts, _signed(each.bound)
    proven = f"{'not worse by' if each.is_not_worse else 'not shown to be within'} {_points(each.margin)}"
    seen = f"{counts.fixed} better, {counts.broken} worse of {counts.rows}"
    return f"{name:<9}  {seen}: at least {bound} points, {proven} (level {100 * each.alpha:.2g}%)"


def _certificate(judge: FieldJudge) -> str:
    found = judge.certificate
    assert found is not None
    word = "certified" if found.is_certified else "not certified"
    proven = f"right on at least {found.tpr_bound:.0%} of pairs that mean the same and {found.tnr_bound:.0%} of others"
    labels = f"{found.counts.good + found.counts.bad} labels"
    kept = f"; margins are multiplied by {share_kept(found):.2f}" if found.is_certified else ""
    return f"of {judge.field} ({judge.tier}), {word}: {proven} ({labels}, 95%){kept}"


def _judged(each: JudgedRate) -> str:
    found = f"{each.same} of {each.judged} pairs mean the same by the judge"
    corrected = each.corrected
    if corrected is not None:
        found += f", {corrected.rate:.0%} ({corrected.low:.0%} to {corrected.high:.0%}) if its errors are taken out"
    return f"of {each.field}, {each.arm}: {found}; {each.alike} more are alike but for case and spaces"


def _judge_as_json(outcome: EvalOutcome, judge: FieldJudge) -> dict[str, Any]:
    found, rates = judge.certificate, [each for each in judged_rates(outcome) if each.field == judge.field]
    return {
        "field": judge.field,
        "tier": judge.tier,
        "is_certified": found is not None and found.is_certified,
        "labels": None if found is None else asdict(found.counts),
        "tpr_bound": None if found is None else found.tpr_bound,
        "tnr_bound": None if found is None else found.tnr_bound,
        "rates": [asdict(each) for each in rates],
    }


def _rows(outcome: EvalOutcome) -> Iterator[str]:
    for word, rows in (("broken", outcome.broken), ("fixed", outcome.fixed)):
        if rows:
            more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
            yield f"{word:<9}  {', '.join(row.key for row in rows[:SHOWN_ROWS])}{more}"


def _as_json(each: Comparison) -> dict[str, Any]:
    return {
        "n": each.counts.rows,
        "b": each.counts.fixed,
        "c": each.counts.broken,
        "margin": each.margin,
        "bound": each.bound,
        "p_value": each.p_value,
        "is_not_worse": each.is_not_worse,
        "is_better": each.is_better,
        "is_worse": each.is_worse,
    }


def _priced(price: DecisionPrice) -> dict[str, Any]:
    return {"rows": price.rows, "labels": price.labels, "cost_usd": price.cost_micro / MICRO}


def _points(share: float) -> str:
    return f"{100 * share:g} points"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"

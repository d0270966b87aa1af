"""How often each version agrees with golden rows in fields that a judge compares, corrected for the judge's errors."""

from collections.abc import Iterator
from dataclasses import dataclass

from rowtide.evals.comparers import is_same_text
from rowtide.evals.judges import Certificate, CorrectedRate, FieldJudge, corrected_rate
from rowtide.evals.outcome import ArmName, EvalOutcome


@dataclass(frozen=True, slots=True)
class JudgedRate:
    """One version's values of one field, as its judge found them."""

    field: str
    arm: ArmName
    alike: int
    """Rows whose value is the known one but for case and spaces: nobody was asked."""
    judged: int
    same: int
    """Of those judged, by the judge."""
    corrected: CorrectedRate | None
    """The share of those judged that mean the same, as far as a judge that errs can tell; None of none."""


def judged_rates(outcome: EvalOutcome) -> Iterator[JudgedRate]:
    """Yield the rates of both versions, field by field, over the rows that statistics count."""
    for judge in outcome.judges:
        if judge.certificate is not None and judge.certificate.is_certified:
            yield _rate(outcome, judge, judge.certificate, "candidate")
            yield _rate(outcome, judge, judge.certificate, "incumbent")


def _rate(outcome: EvalOutcome, judge: FieldJudge, certificate: Certificate, arm: ArmName) -> JudgedRate:
    alike, found = 0, list[bool]()
    for row in outcome.counted:
        each = row.candidate if arm == "candidate" else row.incumbent
        known, answered = row.known.get(judge.field), (each.answer or {}).get(judge.field)
        if judge.field not in each.fields or known is None or answered is None:
            continue
        if is_same_text(known, answered):
            alike += 1
        else:
            found.append(each.fields[judge.field])
    corrected = corrected_rate(sum(found), len(found), certificate.counts)
    return JudgedRate(judge.field, arm, alike, len(found), sum(found), corrected)

"""Measures golden rows: the share of known-worse candidates that they were shown to be able to refuse."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rowtide.evals.outcome import EvalOutcome
from rowtide.evals.verdicts import PASSES
from rowtide.text_format import format_usd
from rowtide.tiers.pricing import MICRO

ENOUGH = 0.9  # of what was planted, for a set to be called fit to refuse
UNNOTICED = "either what was changed does nothing, or no golden row needs it"


@dataclass(frozen=True, slots=True)
class PlantedCandidate:
    """A known-worse candidate, and what came of it."""

    name: str
    outcome: EvalOutcome | None
    problem: str = ""
    """Why it could not be evaluated: the job does not load with it."""

    @property
    def is_caught(self) -> bool:
        """Whether it was found worse. One that is undecided is refused too, but so is every equal version."""
        return self.outcome is not None and self.outcome.verdict == "worse"


@dataclass(frozen=True, slots=True)
class Proof:
    """All that were planted, as far as it has come."""

    job: str
    planted: Sequence[PlantedCandidate]
    is_over: bool
    """Whether all were evaluated: a budget may stand before that."""

    @property
    def evaluated(self) -> list[EvalOutcome]:
        return [each.outcome for each in self.planted if each.outcome is not None and each.outcome.verdict]

    @property
    def caught(self) -> list[PlantedCandidate]:
        return [each for each in self.planted if each.is_caught]

    @property
    def missed(self) -> list[PlantedCandidate]:
        return [each for each in self.planted if each.outcome in self.evaluated and not each.is_caught]

    @property
    def cost_micro(self) -> int:
        return sum(each.outcome.cost_micro for each in self.planted if each.outcome is not None)

    @property
    def is_enough(self) -> bool:
        """Whether nine of ten were caught. One that could not be evaluated proves nothing of the golden rows."""
        return bool(self.evaluated) and len(self.caught) >= ENOUGH * len(self.planted)


def proof_lines(proof: Proof) -> list[str]:
    """The proof line by line, the share caught last."""
    heads = ("verdict", "look", "rows", "fixed", "broken", "cost", "planted")
    lines = ["{:<10}{:>5}{:>6}{:>7}{:>8}{:>9}  {}".format(*heads)]
    for each in proof.planted:
        found = each.outcome
        if found is None or not found.looks:
            lines.append(f"{'not tried':<45}  {each.name}: {each.problem}")
            continue
        counts = found.looks[-1].finding.right.counts
        numbers = f"{len(found.looks):>5}{counts.rows:>6}{counts.fixed:>7}{counts.broken:>8}"
        lines.append(f"{found.verdict:<10}{numbers}{format_usd(found.cost_micro / MICRO):>9}  {each.name}")
    made_up = " (answers made up by the emulator)" if any(each.is_made_up for each in proof.evaluated) else ""
    first = sum(len(each.outcome.looks) == 1 for each in proof.caught if each.outcome)
    cost = format_usd(proof.cost_micro / MICRO)
    caught = f"caught {len(proof.caught)} of {len(proof.planted)} planted candidates, {first} of them at the first look"
    return [*lines, f"{caught}; it cost {cost}{made_up}", *map(_missed, proof.missed)]


def _missed(each: PlantedCandidate) -> str:
    assert each.outcome and each.outcome.verdict
    passed = "would have passed" if each.outcome.verdict in PASSES else "refused, as an equal version could be"
    return f"not caught: {each.name} ({passed}): {UNNOTICED}"


def proof_as_json(proof: Proof) -> dict[str, Any]:
    """The proof as one object; money in US dollars."""
    return {
        "job": proof.job,
        "planted": [_as_json(each) for each in proof.planted],
        "evaluated": len(proof.evaluated),
        "caught": len(proof.caught),
        "is_enough": proof.is_enough,
        "is_over": proof.is_over,
        "cost_usd": proof.cost_micro / MICRO,
    }


def _as_json(each: PlantedCandidate) -> dict[str, Any]:
    found = each.outcome
    if found is None or not found.looks:
        return {"name": each.name, "verdict": None, "problem": each.problem}
    counts = found.looks[-1].finding.right.counts
    return {
        "name": each.name,
        "verdict": found.verdict,
        "is_caught": each.is_caught,
        "eval_id": found.eval_id,
        "look": len(found.looks),
        "rows": counts.rows,
        "fixed": counts.fixed,
        "broken": counts.broken,
        "cost_usd": found.cost_micro / MICRO,
    }

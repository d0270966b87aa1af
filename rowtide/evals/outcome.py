"""The outcome of an eval: its verdict and the evidence, look by look and row by row, with both versions' answers.

An *arm* is one version on the golden rows. A row's `row_no` is its number in the ledger, in an ordinary run or in one
of the eval's own: `ledger.read.row_history` tells its whole conversation.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rowtide.evals.golden_rows import Part
from rowtide.evals.judges import FieldJudge
from rowtide.evals.paired_test import PairedCounts
from rowtide.evals.scores import Pairs, Score, pair_scores
from rowtide.evals.verdicts import DecisionPrice, Finding, Margins, Verdict

ArmName = Literal["candidate", "incumbent"]
EXTRA = 0  # the look of rows that no statistics count: pinned rows that were not drawn at random


@dataclass(frozen=True, slots=True)
class ArmAnswer:
    """One version's answer to one golden row."""

    row_no: int | None
    """Its number in the ledger; None when nothing was asked: the other arm's request is the same to the byte, and no
    earlier answer to it is known."""
    score: Score
    fields: Mapping[str, bool]
    """The golden fields that were compared, and whether each agrees; empty where nothing would be loaded."""
    answer: Mapping[str, Any] | None
    """As the ledger keeps it; None where the row was quarantined."""
    reason: str | None
    """Why it was quarantined."""
    tier: str
    """The tier of the last reply; empty without a reply."""
    turns: int
    tool_calls: int
    cost_micro: int
    """What the row cost when it was asked, in micro-dollars, whether that was for this eval or before it."""
    is_from_before: bool
    """Whether the answer was in the ledger before this eval: it cost this eval nothing."""
    failures: tuple[str, ...] = ()
    """What failed in the job's own comparers."""


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """One golden row, with the answers of both versions."""

    key: str
    look: int
    """The first look that counted it, from 1; `EXTRA` if it only had to come out right."""
    group: str
    stratum: str
    is_pinned: bool
    known: Mapping[str, Any]
    """The golden answer."""
    by: str
    is_same_request: bool
    """Both arms would send the same bytes, so the row was asked once and has one answer."""
    candidate: ArmAnswer
    incumbent: ArmAnswer

    @property
    def change(self) -> Literal["fixed", "broken", "same"]:
        """Whether only the candidate is right, or only the incumbent."""
        right = self.candidate.score == "right", self.incumbent.score == "right"
        return "same" if right[0] == right[1] else "fixed" if right[0] else "broken"


@dataclass(frozen=True, slots=True)
class LookOutcome:
    """The result of one look, after so many rows."""

    look: int
    """The look's number, from 1."""
    rows: int
    """The rows counted by then."""
    finding: Finding
    cost_micro: int
    """What the eval had spent by then, in micro-dollars."""
    looked_at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the two versions."""

    label: str
    """In words: `jobs/companies with --tiers opus`."""
    folder: str
    """The folder of this version: a copy, unless it is the job's own."""
    asking: str
    judging: str
    tiers: tuple[str, ...]
    live_calls: int = 0
    """Read-only tool calls that were made, because no recording had them."""
    replayed_calls: int = 0


@dataclass(frozen=True, slots=True)
class EvalOutcome:
    """An eval and its results so far."""

    eval_id: str
    job: str
    part: Part
    candidate: Arm
    incumbent: Arm
    changed: tuple[str, ...]
    """The files and keys of job.yaml in which the two differ."""
    margins: Margins
    level: float
    """The significance level of the golden set, shared by all its verdicts."""
    alpha: float
    """The significance level of this verdict."""
    use: int
    """The ordinal of this verdict on the golden set, from 1; 0 if it uses none of the level (`dev`, or no change)."""
    level_left: float
    planned: tuple[int, ...]
    """The numbers of rows after which a look was planned."""
    looks: tuple[LookOutcome, ...]
    verdict: Verdict | None
    """None while the eval goes on."""
    reasons: tuple[str, ...]
    price: DecisionPrice | None
    """The price of deciding, if the verdict is `undecided`."""
    cost_micro: int
    """What this eval has spent, in micro-dollars."""
    budget_micro: int | None
    is_made_up: bool
    """Whether an emulator answered."""
    started_at: str
    finished_at: str | None
    who: str = ""
    is_drift: bool = False
    """Whether the same version was asked anew, against its own first answers."""
    judges: tuple[FieldJudge, ...] = ()
    """Of the fields that a model compares."""
    override: str | None = None
    """Who let the candidate run although it did not pass, and why, in a sentence."""
    rows: tuple[RowOutcome, ...] = field(default=())

    @property
    def counted(self) -> tuple[RowOutcome, ...]:
        """The rows that statistics count."""
        return tuple(row for row in self.rows if row.look != EXTRA)

    @property
    def fixed(self) -> tuple[RowOutcome, ...]:
        return tuple(row for row in self.counted if row.change == "fixed")

    @property
    def broken(self) -> tuple[RowOutcome, ...]:
        return tuple(row for row in self.counted if row.change == "broken")


@dataclass(frozen=True, slots=True)
class GroupResult:
    """Both versions on some of the rows: those of a group, or one field of all that both would load."""

    rows: int
    candidate_right: int
    incumbent_right: int
    fixed: int
    broken: int

    @property
    def counts(self) -> PairedCounts:
        """The counts for `paired_test.tango_interval`."""
        return PairedCounts(self.rows, self.fixed, self.broken)


def by_group(rows: Iterable[RowOutcome]) -> dict[str, GroupResult]:
    """Count the rows that each version has right, by group, groups in alphabetical order."""
    found: defaultdict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for row in rows:
        found[row.group].append((row.candidate.score == "right", row.incumbent.score == "right"))
    return {group: _count(found[group]) for group in sorted(found)}


def by_field(rows: Iterable[RowOutcome]) -> dict[str, GroupResult]:
    """Count the golden fields that agree, by field. A field of a row that would not be loaded does not agree."""
    found: defaultdict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for row in rows:
        for name in row.known:
            found[name].append((row.candidate.fields.get(name, False), row.incumbent.fields.get(name, False)))
    return {name: _count(each) for name, each in found.items()}


def pairs_of(rows: Iterable[RowOutcome]) -> Pairs:
    """Pair the scores of both versions on these rows, for `judge_candidate`."""
    rows = list(rows)
    return pair_scores(
        [row.key for row in rows],
        {row.key: row.candidate.score for row in rows},
        {row.key: row.incumbent.score for row in rows},
    )


def _count(pairs: list[tuple[bool, bool]]) -> GroupResult:
    return GroupResult(
        rows=len(pairs),
        candidate_right=sum(new for new, _ in pairs),
        incumbent_right=sum(old for _, old in pairs),
        fixed=sum(new and not old for new, old in pairs),
        broken=sum(old and not new for new, old in pairs),
    )

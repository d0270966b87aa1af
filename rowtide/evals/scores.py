"""Score golden rows for one version as right, harm or none, and pair the scores of two versions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rowtide.evals.comparers import Comparer, values_agree
from rowtide.evals.golden_rows import GoldenRow
from rowtide.evals.judged_pairs import Judgements
from rowtide.evals.paired_test import PairedCounts
from rowtide.job.job_code import JobCodeFailure

Score = Literal["right", "harm", "none", "unscored"]


@dataclass(frozen=True, slots=True)
class RowScore:
    """A golden row, after the whole pipeline of one version."""

    score: Score
    """`right`: it would be loaded, and is right. `harm`: it would be loaded, and is wrong. `none`: quarantined.
    `unscored`: a comparer of the job's failed; it counts against the candidate."""
    fields: Mapping[str, bool]
    """The golden fields that were compared, and whether each agrees. Empty where nothing would be loaded."""
    failures: tuple[JobCodeFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two versions on the same golden rows."""

    right: PairedCounts
    harm: PairedCounts
    fixed: tuple[str, ...]
    """The keys that only the candidate has right."""
    broken: tuple[str, ...]
    """The keys that only the incumbent has right."""
    problems: tuple[str, ...]
    """Why the versions cannot be compared; empty if they can. `judge_candidate` takes them."""


def score_row(
    golden: GoldenRow,
    answer: Mapping[str, Any] | None,
    comparers: Mapping[str, Comparer | Judgements],
    *,
    is_loaded: bool,
) -> RowScore:
    """Score one row of one version. `answer` is as the ledger keeps it.

    A row that would be loaded is harm if its answer is missing, lacks a golden field, or has a golden field without a
    comparer (which `check_golden_rows` refuses).
    """
    if not is_loaded:
        return RowScore("none", {})
    fields: dict[str, bool] = {}
    failures: list[JobCodeFailure] = []
    for name, known in golden.answer.items():
        fields[name] = False
        if answer is not None and name in answer and name in comparers:
            agrees = values_agree(comparers[name], known, answer[name])
            if isinstance(agrees, JobCodeFailure):
                failures.append(agrees)
            else:
                fields[name] = agrees
    if failures:
        return RowScore("unscored", fields, tuple(failures))
    return RowScore("right" if all(fields.values()) else "harm", fields)


def pair_scores(keys: Collection[str], candidate: Mapping[str, Score], incumbent: Mapping[str, Score]) -> Pairs:
    """Pair the scores of two versions on the rows of `keys`, each key once.

    What is unknown counts against the candidate: a row that it lacks, or that could not be scored, is harm; an
    incumbent's row that could not be scored is right. Rows that the incumbent lacks make the versions incomparable.
    """
    lacking = [key for key in keys if key not in incumbent]
    new = {key: "harm" if (found := candidate.get(key, "harm")) == "unscored" else found for key in keys}
    old = {key: "right" if (found := incumbent.get(key, "right")) == "unscored" else found for key in keys}
    fixed = tuple(key for key in keys if new[key] == "right" != old[key])
    broken = tuple(key for key in keys if old[key] == "right" != new[key])
    spared = sum(old[key] == "harm" != new[key] for key in keys)
    harmed = sum(new[key] == "harm" != old[key] for key in keys)
    problems = [f"the incumbent has no outcome of {len(lacking)} rows, such as {lacking[0]!r}"] if lacking else []
    if len(set(keys)) < len(keys):
        problems.append("a key was given twice")
    return Pairs(
        PairedCounts(len(keys), len(fixed), len(broken)),
        PairedCounts(len(keys), spared, harmed),
        fixed,
        broken,
        tuple(problems),
    )

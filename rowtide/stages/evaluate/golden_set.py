"""The golden rows that an eval asks, in their order. Every mistake in them is found before a cent is spent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from rowtide.errors import UserMistake, nearest_name
from rowtide.evals.comparers import Comparer
from rowtide.evals.golden_rows import (
    GOLDEN_FILE,
    RANDOM,
    GoldenRow,
    Part,
    check_golden_rows,
    golden_part_of,
    read_golden_rows,
)
from rowtide.evals.job_golden import comparers_of_job
from rowtide.evals.leakage import find_leaks
from rowtide.evals.looks import row_order
from rowtide.evals.planning import explain_too_few_rows
from rowtide.intake.admission import row_keys_of_page
from rowtide.intake.source_rows import SourceRow, canonical_json, row_id
from rowtide.intake.sources import read_pages
from rowtide.job.evals_spec import EvalsSpec
from rowtide.job.job_file import JOB_FILE, line_of_key
from rowtide.job.job_folder import Job
from rowtide.stages.preflight import Plan
from rowtide.stages.run_context import SPOOL_PAGE

LEAST_KEPT = 20  # golden rows: of fewer, hardly any drift could be told
SEED = 20  # always the same: the first rows of one eval are those of the next, and their answers are known


@dataclass(frozen=True, slots=True)
class SetRow:
    """A golden row with the row of the source that it is."""

    golden: GoldenRow
    group: str
    content: bytes
    """Canonical JSON."""

    @property
    def row_id(self) -> str:
        return row_id(self.content)


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """The rows of an eval."""

    counted: list[SetRow]
    """Drawn at random: what statistics count, in the order in which they are asked."""
    extra: list[SetRow]
    """Pinned rows besides: they only have to come out right."""
    comparers: Mapping[str, Comparer]
    dev_share: float


def read_golden_set(job: Job, plan: Plan, part: Part, environment: Mapping[str, str]) -> GoldenSet:
    """Read a job's golden rows of a part and find them in the source that `plan` has. Raises UserMistake."""
    file, evals = job.folder / GOLDEN_FILE, job.spec.evals
    golden = read_golden_rows(file)
    if not golden:
        raise UserMistake("no golden rows: an eval needs rows whose answer is known, see docs/evals.md", file=file)
    comparers = comparers_of_job(job)
    check_golden_rows(golden, plan.job.answer, comparers, file)
    drawn = "dev" if part == "dev" else "confirm"
    mine = [row for row in golden if row.pinned or golden_part_of(row.key, evals.dev_share) == drawn]
    contents = _contents(plan, mine, environment)
    if missing := [row for row in mine if row.key not in contents]:
        others = f" (nor those of {len(missing) - 1} more golden rows)" if len(missing) > 1 else ""
        what = f"no row of the source has the key {missing[0].key!r}{others}; mend the key, or take the row out"
        raise UserMistake(what, file=file, line=missing[0].line)
    groups = _groups(job, mine, contents)
    rows = {row.key: SetRow(row, groups[row.key], contents[row.key]) for row in mine}
    counted = [row for row in mine if row.stratum == RANDOM and golden_part_of(row.key, evals.dev_share) == drawn]
    order = row_order({row.key: groups[row.key] for row in counted}, SEED)
    kept = set(order)
    return GoldenSet(
        [rows[key] for key in order],
        [rows[row.key] for row in mine if row.key not in kept],
        comparers,
        evals.dev_share,
    )


def with_kept_answers(golden: GoldenSet, kept: Mapping[str, int]) -> GoldenSet:
    """Return the rows of the set whose answers are kept: key → row. Raises UserMistake where so few are that nothing
    can be told of them.
    """
    counted = [row for row in golden.counted if row.golden.key in kept]
    if len(counted) < LEAST_KEPT:
        what = (
            f"the ledger keeps answers of this version to {len(counted)} golden rows, and a drift check needs "
            f"{LEAST_KEPT}: a run, or `rowtide eval`, answers them once"
        )
        raise UserMistake(what, key="--drift")
    return replace(golden, counted=counted, extra=[row for row in golden.extra if row.golden.key in kept])


def check_provable(found: GoldenSet, evals: EvalsSpec, alpha: float, file: Path) -> None:
    """Raise UserMistake where so few rows can never prove a margin, with how many are needed."""
    for name, margin in (("right", evals.margins.right), ("harm", evals.margins.harm)):
        if what := explain_too_few_rows(len(found.counted), margin, alpha):
            share = f"; {found.dev_share:.0%} of the golden rows are kept for dev" if found.dev_share else ""
            at = f"at a level of {100 * alpha:.2g}% a look"
            raise UserMistake(f"evals.margins.{name}: {what} ({at}{share})", file=file)


def check_leaks(found: GoldenSet, plan: Plan) -> None:
    """Raise UserMistake for the first golden row that stands in the candidate's prompt or skills."""
    job = plan.job
    sent = {file: file.read_text(encoding="utf-8-sig") for file in [job.prompt_file, *(s.file for s in job.skills)]}
    rows = [*found.counted, *found.extra]
    texts = ((row.golden.key, text) for row in rows for text in _texts(row.content))
    if leaks := find_leaks([row.golden for row in rows], sent, texts):
        first = leaks[0]
        more = f" (and {len(leaks) - 1} more places)" if len(leaks) > 1 else ""
        raise UserMistake(f"{first.words}{more}", file=first.file, line=first.line)


def _texts(content: bytes) -> Iterator[str]:
    return (value for value in orjson.loads(content).values() if isinstance(value, str))


def _contents(plan: Plan, golden: Sequence[GoldenRow], environment: Mapping[str, str]) -> dict[str, bytes]:
    """The source's rows of these keys, as canonical JSON; of a key that stands twice, the first."""
    wanted, found = {row.key for row in golden}, dict[str, bytes]()
    spec, folder = plan.job.spec, plan.job.folder
    for page in read_pages(plan.source, folder, SPOOL_PAGE, environment, spec.limits.row_bytes):
        for key, row in zip(row_keys_of_page(page, spec.key_columns), page, strict=True):
            if key in wanted and key not in found and isinstance(row, SourceRow):
                found[key] = canonical_json(row.values)
        if len(found) == len(wanted):
            break
    return found


def _groups(job: Job, golden: Sequence[GoldenRow], contents: Mapping[str, bytes]) -> dict[str, str]:
    """Each row's group. Raises UserMistake for a column that is none, and for a floor of a group that no row has."""
    evals, file = job.spec.evals.groups, job.folder / JOB_FILE
    column = evals.by or job.spec.skills.group_by
    if column is None:
        if evals.floors:
            raise UserMistake("floors need groups: name their column in evals.groups.by", file=file, key="evals.groups")
        return dict.fromkeys((row.key for row in golden), "")
    values = {row.key: orjson.loads(contents[row.key]) for row in golden}
    columns = dict.fromkeys(name for row in values.values() for name in row)
    if column not in columns:
        what = f"{column!r} is not a column of the source; columns: {', '.join(columns)}"
        raise UserMistake(what, file=file, key="evals.groups.by", meant=nearest_name(column, columns))
    groups = {key: "" if (value := row.get(column)) is None else str(value).strip() for key, row in values.items()}
    for name in evals.floors:
        if name not in groups.values():
            what = f"no golden row is of the group {name!r}"
            line = line_of_key(job.folder, "evals", "groups", "floors", name)
            meant = nearest_name(name, set(groups.values()))
            raise UserMistake(what, file=file, line=line, key=f"evals.groups.floors.{name}", meant=meant)
    return groups

"""Reads and checks a job's golden rows together with the comparers of its fields."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rowtide.errors import UserMistake
from rowtide.evals.comparers import Comparer, comparers_of, job_comparers
from rowtide.evals.golden_rows import GOLDEN_FILE, GoldenRow, check_golden_rows, read_golden_rows
from rowtide.evals.scores import score_row
from rowtide.job.answer_fields import answer_fields
from rowtide.job.evals_spec import Judge
from rowtide.job.job_file import JOB_FILE, line_of_key
from rowtide.job.job_folder import Job


@dataclass(frozen=True, slots=True)
class JobGolden:
    """The golden rows of a job, by key, and how each field is compared."""

    rows: Mapping[str, GoldenRow]
    comparers: Mapping[str, Comparer]

    def is_right(self, key: str, answer: Mapping[str, Any]) -> bool:
        """Whether an answer that would be loaded agrees in every golden field."""
        return score_row(self.rows[key], answer, self.comparers, is_loaded=True).score == "right"


def comparers_of_job(job: Job) -> dict[str, Comparer]:
    """Return field → comparer for a job's answer. Raises UserMistake with file and line."""
    try:
        own = job_comparers(job.own_code, job.answer_file)
        return comparers_of(answer_fields(job.answer), job.spec.evals.fields, own)
    except UserMistake as mistake:
        if mistake.file is not None or mistake.key is None:
            raise
        line = line_of_key(job.folder, *mistake.key.split("."))
        file = job.folder / JOB_FILE
        raise UserMistake(mistake.what, file=file, line=line, key=mistake.key, meant=mistake.meant) from None


def read_job_golden(job: Job) -> JobGolden:
    """Read and check a job's golden rows, in the fields that code can compare; none when the job has no golden file.
    Raises UserMistake with file and line.
    """
    comparers, file = comparers_of_job(job), job.folder / GOLDEN_FILE
    rows = read_golden_rows(file)
    check_golden_rows(rows, job.answer, comparers, file)
    known = {row.key: without_judged(row.answer, comparers) for row in rows}
    return JobGolden({row.key: replace(row, answer=known[row.key]) for row in rows if known[row.key]}, comparers)


def without_judged(answer: Mapping[str, Any], comparers: Mapping[str, Comparer]) -> dict[str, Any]:
    """Return the fields of a golden answer that code can compare: outside of an eval no judge is asked."""
    return {name: value for name, value in answer.items() if not isinstance(comparers.get(name), Judge)}

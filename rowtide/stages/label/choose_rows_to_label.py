"""Chooses the job's rows that are worth labelling next, from its source and its newest run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rowtide.errors import UserMistake
from rowtide.evals.golden_rows import GOLDEN_FILE, GoldenRow, read_golden_rows
from rowtide.evals.label_choice import Candidate, Stratum, choose_rows
from rowtide.intake.source_rows import SourceRow, row_key
from rowtide.intake.sources import choose_source, read_pages, source_columns
from rowtide.job.job_folder import Job, check_columns
from rowtide.ledger.answers import runs_by_name
from rowtide.ledger.labels import disputed_keys, quarantined_keys
from rowtide.ledger.ledger import Ledger

PAGE_ROWS = 5000


@dataclass(frozen=True, slots=True)
class LabelQueue:
    """The rows to label, in order, with the columns of their source, and the rows already labelled."""

    columns: list[str]
    rows: list[Candidate]
    labelled: list[GoldenRow]


def rows_to_label(
    job: Job, source_path: str | None, environment: Mapping[str, str], ledger: Ledger | None, count: int
) -> LabelQueue:
    """Choose up to `count` rows. Raises UserMistake when the source or the golden file cannot be read."""
    source = choose_source(job.spec.source, source_path, job.folder, environment)
    columns = source_columns(source, job.folder, environment)
    check_columns(job, columns)
    labelled = read_golden_rows(job.folder / GOLDEN_FILE)
    rows = source_rows(job, source_path, environment)
    chosen = choose_rows(rows, _odd_rows(job, ledger), {row.key for row in labelled}, count)
    return LabelQueue(columns, chosen, labelled)


def source_rows(job: Job, source_path: str | None, environment: Mapping[str, str]) -> Iterator[Candidate]:
    """Yield the job's readable rows that have a key."""
    source = choose_source(job.spec.source, source_path, job.folder, environment)
    for page in read_pages(source, job.folder, PAGE_ROWS, environment, job.spec.limits.row_bytes):
        for record in page:
            if isinstance(record, SourceRow) and (key := row_key(record.values, job.spec.key_columns)):
                yield Candidate(key, record.values)


def _odd_rows(job: Job, ledger: Ledger | None) -> dict[str, Stratum]:
    """Return key → stratum of rows that the job's newest run quarantined or disputed; empty without a run."""
    if ledger is None:
        return {}
    with ledger.view() as tx:
        try:
            newest = runs_by_name(tx, job.name)[0]
        except UserMistake:
            return {}
        odd: dict[str, Stratum] = dict.fromkeys(disputed_keys(tx, newest), "disagreement")
        odd.update(dict.fromkeys(quarantined_keys(tx, newest), "quarantined"))
        return odd

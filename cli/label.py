"""`rowtide label JOB`: rows worth labelling, out to a sheet or one after another, and labels back as golden rows."""

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import TypeAdapter

from cli.numbers import Count
from cli.open_ledger import has_any_ledger, open_existing_ledger
from cli.output import err, out
from cli.shared_arguments import JobName
from rowtide.errors import UserMistake
from rowtide.evals.golden_rows import GOLDEN_FILE, GoldenRow, count_golden_rows, read_golden_rows
from rowtide.evals.label_choice import Candidate
from rowtide.evals.label_sheet import field_types, label_columns, label_records, parse_label, read_label_sheet
from rowtide.job.job_folder import Job, find_job, load_job
from rowtide.quarantine.quarantine_sheet import write_csv_sheet
from rowtide.stages.label.choose_rows_to_label import LabelQueue, rows_to_label, source_rows
from rowtide.stages.label.golden_labels import LabelsTaken, take_answers_of_persons, take_labels
from rowtide.text_format import shorten_text

ENOUGH = 165  # golden rows: what they prove stands in docs/evals.md


def label(
    job: JobName,
    *,
    to: Path | None = None,
    import_: Annotated[Path | None, Parameter(name="--import")] = None,
    terminal: bool = False,
    from_quarantine: bool = False,
    count: bool = False,
    rows: Count = 50,
    fields: str | None = None,
    by: str | None = None,
    source: Path | None = None,
) -> int:
    """Choose the rows whose right answer would teach most, and take what people say of them into golden.jsonl.

    Half of the rows are drawn at random: only those say how often a version is right. The others are rows on which
    tiers or checks disagreed, rows in quarantine, and rows unlike all others.

    Parameters
    ----------
    to
        The sheet to write, a .csv; by default stdout. Fill in answer.NAME (all you know; `null` where there is no
        value), how you know it, and `pinned` (yes, where it must never come out wrong).
    import_
        A sheet to take back: all lines with an answer, or, if anything is odd in one, none.
    terminal
        Ask row by row here instead: an empty answer passes a field over, `q` ends. Each row is kept at once.
    from_quarantine
        Take the answers that people gave in the quarantine of this job's runs; their stratum is `quarantined`.
    count
        Only say how many golden rows there are: by stratum, by who labelled them, and in which part.
    rows
        How many rows to choose.
    fields
        Of answers from the quarantine, the fields to take: `country,sector`; by default those that golden rows have.
    by
        Who labels: your name. By default the one you are logged in with.
    source
        A file to read instead of the job's own source.
    """
    found, who = load_job(find_job(job, jobs=Path("jobs"))), by or getpass.getuser()
    if sum((to is not None, import_ is not None, terminal, from_quarantine, count)) > 1:
        raise UserMistake("one of --to, --import, --terminal, --from-quarantine and --count at a time")
    path = str(source.resolve()) if source else None
    if import_ is not None:
        _print_taken(_take_sheet(found, import_, who, path))
    elif from_quarantine:
        named = [name.strip() for name in (fields or "").split(",") if name.strip()]
        with open_existing_ledger(job=found.name) as ledger:
            _print_taken(take_answers_of_persons(found, ledger, named))
    elif terminal:
        _ask_row_by_row(found, _queue(found, path, rows), who)
    elif not count:
        _write_sheet(found, _queue(found, path, rows), to)
    _print_counts(found)
    return 0


def _queue(job: Job, source: str | None, count: int) -> LabelQueue:
    opened = open_existing_ledger(job=job.name) if has_any_ledger() else nullcontext()
    with opened as ledger:
        return rows_to_label(job, source, os.environ, ledger, count)


def _write_sheet(job: Job, queue: LabelQueue, to: Path | None) -> None:
    if to is not None and to.suffix.lower() != ".csv":
        raise UserMistake("a labelling sheet ends in .csv", file=to)
    if to is not None and to.exists():
        raise UserMistake("is there already, and may be half filled in: name another", file=to)
    fields = list(field_types(job.answer))
    target = sys.stdout.fileno() if to is None else to
    with open(target, "w", encoding="utf-8", newline="", closefd=to is not None) as file:
        write_csv_sheet(file, label_columns(queue.columns, fields), label_records(queue.rows, queue.columns, fields))
    then = f"; fill in answer.*, then: rowtide label {job.folder.name} --import {to}" if to else ""
    err.print(f"{len(queue.rows):,} rows to label{then}")


def _take_sheet(job: Job, sheet: Path, who: str, source: str | None) -> LabelsTaken:
    if not sheet.is_file():
        raise UserMistake("no such file", file=sheet)
    labels = read_label_sheet(sheet.read_bytes(), sheet, job.answer, who)
    return take_labels(job, labels, (row.key for row in source_rows(job, source, os.environ)), sheet)


def _ask_row_by_row(job: Job, queue: LabelQueue, who: str) -> None:
    """Show each row and ask for its answer, until there are no more or nobody goes on."""
    types, taken = field_types(job.answer), 0
    for place, row in enumerate(queue.rows, 1):
        out.print(f"{place} of {len(queue.rows)} · {row.key} · {row.stratum}")
        out.lines([f"  {name}: {shorten_text(str(value), 300)}" for name, value in row.values.items() if value])
        try:
            answer = dict(_asked(types, input))
            how = input("  how do you know it? ").strip() if answer else ""
        except EOFError:
            break
        if answer:
            label = GoldenRow(row.key, answer, place, how=how, by=who, stratum=row.stratum)
            taken += _keep_one(job, label, row)
    out.print(f"{taken:,} rows labelled")


def _keep_one(job: Job, label: GoldenRow, row: Candidate) -> int:
    """Take one label at once. What does not fit is reported, and the row passed over."""
    try:
        return take_labels(job, [label], [row.key], Path("what you typed")).added
    except UserMistake as mistake:
        err.print(f"not taken: {mistake.what}")
        return 0


def _asked(types: dict[str, TypeAdapter[object]], ask: Callable[[str], str]) -> Iterator[tuple[str, Any]]:
    for name, kind in types.items():
        typed = ask(f"  {name}? ").strip()
        if typed == "q":
            raise EOFError
        if typed:
            yield name, parse_label(typed, kind)


def _print_taken(taken: LabelsTaken) -> None:
    known = f"; {taken.known:,} were golden already" if taken.known else ""
    out.print(f"{taken.added:,} golden rows added{known}")


def _print_counts(job: Job) -> None:
    rows = read_golden_rows(job.folder / GOLDEN_FILE)
    counts = count_golden_rows(rows)
    err.print(f"{GOLDEN_FILE}: {counts.rows:,} rows, {counts.pinned:,} of them pinned")
    for name, found in (("stratum", counts.by_stratum), ("labelled by", counts.by_labeller), ("part", counts.by_part)):
        if found:
            typed = " · ".join(f"{what} {many:,}" for what, many in sorted(found.items(), key=lambda each: -each[1]))
            err.print(f"  {name}: {typed}")
    if counts.rows < ENOUGH:
        err.print(f"  {ENOUGH} rows show that a version is not worse by 5 points (docs/evals.md)")

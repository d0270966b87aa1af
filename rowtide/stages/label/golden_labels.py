"""Adds labels to golden.jsonl: all of them in one step, or none, with file and line of the mistake."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from rowtide.errors import UserMistake
from rowtide.evals.golden_rows import (
    GOLDEN_FILE,
    RANDOM,
    GoldenRow,
    check_golden_keys,
    check_golden_rows,
    read_golden_rows,
)
from rowtide.evals.job_golden import comparers_of_job
from rowtide.job.job_folder import Job
from rowtide.ledger.answers import runs_by_name
from rowtide.ledger.labels import answers_of_persons
from rowtide.ledger.ledger import Ledger
from rowtide.quarantine.quarantine_cells import is_same_json


@dataclass(frozen=True, slots=True)
class LabelsTaken:
    """How many labels became golden rows, and how many rows were golden already."""

    added: int
    known: int


def take_labels(job: Job, labels: Sequence[GoldenRow], source_keys: Iterable[str], sheet: Path) -> LabelsTaken:
    """Add golden rows from a sheet. Raises UserMistake with file and line, and then adds none."""
    golden = job.folder / GOLDEN_FILE
    known, fresh = {row.key: row for row in read_golden_rows(golden)}, dict[str, GoldenRow]()
    check_golden_rows(labels, job.answer, comparers_of_job(job), sheet)
    for row in labels:
        if (before := fresh.setdefault(row.key, row)) is not row:
            what = f"stands on line {before.line} too; keep one of the two"
            raise UserMistake(what, file=sheet, line=row.line, key=row.key)
        if (old := known.get(row.key)) and not _says_the_same(old.answer, row.answer):
            what = f"{golden.name}, line {old.line}, knows another answer: take one of the two out"
            raise UserMistake(what, file=sheet, line=row.line, key=row.key)
    added = [row for row in labels if row.key not in known]
    check_golden_keys(added, source_keys, sheet)
    _append(golden, added)
    return LabelsTaken(len(added), len(labels) - len(added))


def take_answers_of_persons(job: Job, ledger: Ledger, fields: Sequence[str]) -> LabelsTaken:
    """Make golden rows of people's answers in quarantine, with those of `fields` that have a comparer.

    Rows that are golden already stay as they are. Without `fields`, the golden rows' fields; else all.
    """
    golden, comparers = job.folder / GOLDEN_FILE, comparers_of_job(job)
    known = read_golden_rows(golden)
    named = list(fields) or list(dict.fromkeys(name for row in known for name in row.answer)) or list(comparers)
    with ledger.view() as tx:
        given = answers_of_persons(tx, runs_by_name(tx, job.name))
    labels = [
        GoldenRow(
            each.row_key,
            {name: each.answer[name] for name in named if name in each.answer and name in comparers},
            0,
            how=f"answered in the quarantine of run {each.run_id}",
            by=each.who,
            stratum="quarantined",
        )
        for each in given
    ]
    keys = {row.key for row in known}
    added = [row for row in labels if row.answer and row.key not in keys]
    _append(golden, added)
    return LabelsTaken(len(added), len(labels) - len(added))


def golden_line(row: GoldenRow) -> bytes:
    """Return a golden row as a line of the file, without keys that have their default."""
    line: dict[str, object] = {"key": row.key, "answer": dict(row.answer)}
    line |= {name: value for name in ("how", "by") if (value := getattr(row, name))}
    line |= {"pinned": True} if row.pinned else {}
    line |= {"stratum": row.stratum} if row.stratum != RANDOM else {}
    return orjson.dumps(line) + b"\n"


def _says_the_same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return all(is_same_json(value, one[name]) for name, value in other.items() if name in one)


def _append(golden: Path, rows: Sequence[GoldenRow]) -> None:
    """Append lines to the file in one step, so that readers see all of them or none."""
    if not rows:
        return
    before = golden.read_bytes() if golden.is_file() else b""
    before += b"\n" if before and not before.endswith(b"\n") else b""
    beside = golden.with_name(f".{golden.name}.{os.getpid()}")
    beside.write_bytes(before + b"".join(map(golden_line, rows)))
    beside.replace(golden)

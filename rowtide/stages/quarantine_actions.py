"""Writes the quarantine as a sheet, imports a sheet, and sends quarantined rows again.

Each is one transaction: all of it takes place, or nothing.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import orjson

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.answer_fields import fields_to_fill_in
from rowtide.job.job_folder import Job, load_job
from rowtide.job.versions import check_job_unchanged
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import prefixes as ledger_prefixes
from rowtide.ledger import quarantine as ledger_quarantine
from rowtide.ledger import quarantine_selection as ledger_quarantine_selection
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.quarantine import EDITED, Signature
from rowtide.ledger.rows import MoveReason, keys_present
from rowtide.quarantine.quarantine_cells import LONGEST, to_cell
from rowtide.quarantine.quarantine_sheet import KINDS, SheetShape, read_sheet, sheet_record
from rowtide.quarantine.sheet_edits import EditRules, SheetEdit, check_new_keys, edits_of_sheet


@dataclass
class SheetExport:
    """What was written: rows, and cells longer than a spreadsheet holds."""

    rows: int = 0
    long: int = 0


@dataclass(frozen=True, slots=True)
class AlreadyImported:
    """The same sheet was imported before: by whom, and when."""

    who: str
    taken_at: str


@dataclass(frozen=True, slots=True)
class SheetImport:
    """What a sheet asked for, in rows."""

    rows: int
    touched: int
    edited: int
    answered: int
    retried: int
    discarded: int


def open_quarantined_run(ledger: Ledger, run_id: str) -> tuple[Run, Job]:
    """Return a run and its job. Raises UserMistake when the job has changed: the run could not go on."""
    with ledger.view() as tx:
        run = ledgers.find_run(tx, run_id)
    job = load_job(Path(run.job_folder))
    check_job_unchanged(job.version, run, job.folder)
    return run, job


def write_sheet(ledger: Ledger, run: Run, job: Job, reason: str | None, kind: str, file: TextIO) -> SheetExport:
    """Write the quarantined rows of a reason, or all that are not discarded, to a sheet, page by page."""
    counted = SheetExport()
    with ledger.view() as tx:
        shape = _shape(ledger, run, job)

        def records() -> Iterator[dict[str, object]]:
            after = 0
            while page := ledger_quarantine.quarantine_page(tx, run, reason, after=after):
                after = page[-1].row_no
                for entry in page:
                    record = sheet_record(entry, run.run_id, shape)
                    counted.rows += 1
                    counted.long += sum(len(to_cell(value)) > LONGEST for value in record.values())
                    yield record

        KINDS[kind][0](file, shape.columns, records())
    return counted


def import_sheet(
    ledger: Ledger, run: Run, job: Job, name: str, content: bytes, hand: Signature
) -> SheetImport | AlreadyImported:
    """Apply all edits of a sheet, or raise UserMistake and apply none."""
    sheet = hashlib.blake2b(content, digest_size=16).hexdigest()
    signed, shape = replace(hand, sheet=sheet), _shape(ledger, run, job)
    with ledger.page() as tx:
        if before := ledger_quarantine.earlier_import_of_sheet(tx, run, sheet):
            return AlreadyImported(*before)
        lines = read_sheet(content, name, run_id=run.run_id, shape=shape)
        entries = ledger_quarantine.quarantine_entries(tx, run, [line.row_key for line in lines])
        rules = _rules(job, name, shape)
        found = edits_of_sheet(lines, entries, rules, ledger_quarantine.sample_quarantined_keys(tx, run))
        old_keys = {entry.row_no: entry.row_key for entry in entries.values()}
        renamed = [edit for edit in found if edit.row_key != old_keys[edit.row_no]]
        check_new_keys(renamed, rules, keys_present(tx, run, [edit.row_key for edit in renamed]))
        ledger_quarantine.edit_rows(tx, found, signed)
        ledger_quarantine.override_answers(tx, run, found, signed)
        again = [_again(edit, name) for edit in found if edit.do == "retry"]
        ledger_quarantine.retry_rows(tx, run, again, None, signed)
        groups = _groups(job, ledger_quarantine.edited_contents(tx, [each.row_no for each in again]))
        ledger_prefixes.assign_prefixes(tx, run, groups, skills_for=job.skills_for, instructions=job.instructions)
        discarded = [entries[edit.row_key] for edit in found if edit.do == "discard"]
        given_up = ledger_quarantine.discard_rows(tx, discarded, f"in {Path(name).name}", signed)
    return SheetImport(
        rows=len(lines),
        touched=len(found),
        edited=sum(edit.content is not None for edit in found),
        answered=sum(edit.answer is not None for edit in found),
        retried=len(again),
        discarded=given_up,
    )


def resend_rows(
    ledger: Ledger,
    run: Run,
    job: Job,
    keys: Sequence[str],
    reason: str | None,
    tier: str | None,
    hand: Signature,
    *,
    every: bool,
) -> tuple[int, int]:
    """Send the selected rows again. Returns how many were sent, and how many must be edited first."""
    tier_no, note, sent, kept = _tier_no(job, tier), f"at {tier}" if tier else "", 0, 0
    with ledger.page() as tx:
        for page in ledger_quarantine_selection.select_quarantined(tx, run, keys, reason, every=every):
            refused = [each for each in page if each.is_refused]
            if keys and refused:
                raise UserMistake(f"edit it first, it was refused: {refused[0].detail}", key=refused[0].row_key)
            move_reasons = [
                MoveReason(each.row_no, each.turn, each.reason, note) for each in page if not each.is_refused
            ]
            ledger_quarantine.retry_rows(tx, run, move_reasons, tier_no, hand)
            groups = _groups(job, ledger_quarantine.edited_contents(tx, [each.row_no for each in move_reasons]))
            ledger_prefixes.assign_prefixes(tx, run, groups, skills_for=job.skills_for, instructions=job.instructions)
            sent, kept = sent + len(move_reasons), kept + len(refused)
    return sent, kept


def _groups(job: Job, contents: Mapping[int, bytes]) -> dict[int, str | None]:
    """Return the group of each row (row_no → content, JSON); none where the job has no groups."""
    if job.spec.skills.group_by is None:
        return {}
    return {row_no: job.group_of(orjson.loads(content)) for row_no, content in contents.items()}


def _shape(ledger: Ledger, run: Run, job: Job) -> SheetShape:
    with ledger.view() as tx:
        return ledger_quarantine.sheet_shape(tx, run, job.spec.key_columns, [*fields_to_fill_in(job.answer)])


def _rules(job: Job, name: str, shape: SheetShape) -> EditRules:
    return EditRules(
        file=name,
        shape=shape,
        key_columns=job.spec.key_columns,
        row_bytes=job.spec.limits.row_bytes,
        answer=job.answer,
        checks=job.checks,
    )


def _again(edit: SheetEdit, name: str) -> MoveReason:
    return MoveReason(edit.row_no, edit.turn, EDITED if edit.content else edit.reason, f"in {Path(name).name}")


def _tier_no(job: Job, tier: str | None) -> int | None:
    if tier is None:
        return None
    if tier not in job.spec.tiers:
        known = ", ".join(job.spec.tiers)
        raise UserMistake(
            f"the job has no such tier; it has {known}", key=tier, meant=nearest_name(tier, job.spec.tiers)
        )
    return job.spec.tiers.index(tier)

"""The edits a person made in a sheet: row edited, answer given, row sent again or discarded.

Pure: takes a line of the sheet and the row as the ledger has it. What is odd is refused, with file, line and column.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NoReturn

import orjson
from pydantic import BaseModel, TypeAdapter

from rowtide.agent.answer_checks import Check, judge_answer
from rowtide.errors import UserMistake, nearest_name
from rowtide.intake.source_rows import canonical_json, row_key
from rowtide.job.answer_fields import fields_to_fill_in
from rowtide.quarantine.quarantine_cells import (
    TEXT,
    is_cell_unchanged,
    is_same_json,
    parse_answer_cell,
    parse_cell,
    value_as_text,
    value_kind,
    was_cell_cut,
)
from rowtide.quarantine.quarantine_sheet import ANSWER, INPUT, SheetEntry, SheetLine, SheetShape

SHOWN = 80  # characters of a value that a note tells of
NAMED_BY_LINE = re.compile(r"(.+ \()?line \d+\)?", re.DOTALL)  # how admission calls a row without a key of its own


@dataclass(frozen=True, slots=True)
class EditRules:
    """What edited rows must comply with."""

    file: str
    shape: SheetShape
    key_columns: Sequence[str]
    row_bytes: int
    answer: type[BaseModel]
    checks: Sequence[Check]


@dataclass(frozen=True, slots=True)
class SheetEdit:
    """The edit of a row. `content` or `answer` is set when it is new; both are JSON."""

    line: int
    row_no: int
    turn: int
    row_key: str
    reason: str
    """Why it is in quarantine now."""
    content: bytes | None
    answer: bytes | None
    do: str
    note: str
    """What was changed, in words."""


def advice_for_reason(reason: str, *, can_escalate: bool) -> str:
    """Return what a person can do about rows with this reason. `can_escalate`: there is a tier above one of them."""
    note = ADVICE.get(reason, "look at one; then mend it, send it again, or answer it yourself")
    return note.replace(AGAIN, f"{AGAIN} at a higher tier") if can_escalate and reason in BY_THE_MODEL else note


def edits_of_sheet(
    lines: Sequence[SheetLine], entries: Mapping[str, SheetEntry], rules: EditRules, known: Collection[str]
) -> list[SheetEdit]:
    """Return the edits that a sheet's lines ask for; lines without a change ask for none.

    `entries` are the run's, by key; `known` are keys that somebody may have meant.
    """
    infos = rules.answer.model_fields
    fields = {
        name: TypeAdapter[object](infos[attribute].annotation or object)
        for name, attribute in fields_to_fill_in(rules.answer).items()
    }
    found: list[SheetEdit] = []
    for line in lines:
        if (entry := entries.get(line.row_key)) is None:
            what, meant = f"no row {line.row_key!r} in this quarantine", nearest_name(line.row_key, known)
            raise UserMistake(what, file=rules.file, line=line.number, key="row_key", meant=meant)
        if edit := _edit(line, entry, rules, fields):
            found.append(edit)
    return found


def check_new_keys(given: Sequence[SheetEdit], rules: EditRules, taken: Collection[str]) -> None:
    """Raise UserMistake if a row is given a key that is `taken`, or two rows the same key."""
    seen = set(taken)
    for edit in given:
        if edit.row_key in seen:
            what = f"{edit.row_key!r} is another row's key in this run; give it one of its own"
            raise UserMistake(what, file=rules.file, line=edit.line, key=INPUT + rules.key_columns[0])
        seen.add(edit.row_key)


def _edit(
    line: SheetLine, entry: SheetEntry, rules: EditRules, fields: Mapping[str, TypeAdapter[object]]
) -> SheetEdit | None:
    values = dict(_changed_inputs(line, entry, rules))
    claims = dict(_changed_answers(line, entry, rules, fields))
    if line.as_of != entry.as_of:
        _check_stale(line, entry, rules, is_changed=bool(values or claims))
        return None
    if line.do in ("retry", "discard") and claims:
        _refuse(f"an answer was changed, and the row is to be {WORDS[line.do]}: which?", line, rules, "do")
    if line.do == "discard" and values:
        _refuse("the row was changed, and it is to be given up: which?", line, rules, "do")
    content = _content(values, line, entry, rules) if values else None
    key = _key(content, line, entry, rules) if content else entry.row_key
    is_answered = line.do == "accept" or bool(claims)
    if entry.is_refused and content is None and (is_answered or line.do == "retry"):
        _refuse(f"it was refused on admission ({entry.reason}): edit it first", line, rules, "do")
    answer = _answer(claims, content or entry.content, line, entry, rules) if is_answered else None
    if not (content or answer or line.do):
        return None
    note = [f"{INPUT}{name}: {_cut(entry.content.get(name))} → {_cut(value)}" for name, value in values.items()]
    note += [
        f"{ANSWER}{name}: {_cut((entry.answer or {}).get(name))} → {_cut(value)}" for name, value in claims.items()
    ]
    return SheetEdit(
        line=line.number,
        row_no=entry.row_no,
        turn=entry.turn,
        row_key=key,
        reason=entry.reason,
        content=canonical_json(content) if content else None,
        answer=answer,
        do=line.do,
        note=f"{PurePath(rules.file).name}: {'; '.join(note) or 'as it stood'}",
    )


def _changed_inputs(line: SheetLine, entry: SheetEntry, rules: EditRules) -> Iterator[tuple[str, object]]:
    """The source columns whose cell was changed: (name, value)."""
    for name, kinds in rules.shape.inputs.items():
        if (column := INPUT + name) in line.cells:
            old, cell = entry.content.get(name), line.cells[column]
            if not line.is_text:
                _check_kind(cell, kinds, line, rules, column)
                value = cell
            else:
                assert isinstance(cell, str)
                if _is_untouched(cell, old, line, rules, column):
                    continue
                try:
                    value = parse_cell(cell, kinds)
                except ValueError as error:
                    _refuse(str(error), line, rules, column)
            if not is_same_json(value, old):
                yield name, value


def _check_kind(value: object, kinds: Collection[str], line: SheetLine, rules: EditRules, column: str) -> None:
    if value is not None and kinds and value_kind(value) not in kinds:
        _refuse(f"{value_as_text(value)[:100]!r} is not {' or '.join(sorted(kinds))}", line, rules, column)


def _changed_answers(
    line: SheetLine, entry: SheetEntry, rules: EditRules, fields: Mapping[str, TypeAdapter[object]]
) -> Iterator[tuple[str, object]]:
    answer = entry.answer or {}
    for name, field in fields.items():
        if (column := ANSWER + name) in line.cells:
            old, cell = answer.get(name), line.cells[column]
            if line.is_text:
                assert isinstance(cell, str)
                if _is_untouched(cell, old, line, rules, column):
                    continue
                cell = parse_answer_cell(cell, field)
            if not is_same_json(cell, old):
                yield name, cell


def _is_untouched(cell: str, old: object, line: SheetLine, rules: EditRules, column: str) -> bool:
    if was_cell_cut(cell, old):
        _refuse("a spreadsheet cut this cell; export the row as JSONL", line, rules, column)
    return is_cell_unchanged(cell, old)


def _check_stale(line: SheetLine, entry: SheetEntry, rules: EditRules, *, is_changed: bool) -> None:
    """Raise UserMistake if a row has moved on since the export and the line asks for a change."""
    if entry.state == "quarantined":
        is_so = not line.do or (line.do == "discard" and entry.reason == "discarded")
    else:
        is_so = line.do != "discard"
    if is_changed or not is_so:
        _refuse(f"the row has moved on since this export, and is {entry.state}: export again", line, rules, "as_of")


def _content(values: Mapping[str, object], line: SheetLine, entry: SheetEntry, rules: EditRules) -> dict[str, Any]:
    """The row's content after the edit. A row that was never read must be given whole."""
    if entry.content:
        content = {**entry.content, **values}
    else:
        for name in rules.shape.inputs:
            if INPUT + name not in line.cells:
                _refuse("the row was never read, so every column is needed", line, rules, INPUT + name)
        empty = {name: "" if kinds <= {TEXT} else None for name, kinds in rules.shape.inputs.items()}
        content = empty | dict(values)
    if (size := len(canonical_json(content))) > rules.row_bytes:
        _refuse(f"{size:,} bytes as JSON; limits.row_bytes is {rules.row_bytes:,}", line, rules, "row_key")
    return content


def _key(content: dict[str, Any], line: SheetLine, entry: SheetEntry, rules: EditRules) -> str:
    """The key after the edit: a row keeps its key; one that was named by its line gets the key it now spells."""
    column = INPUT + rules.key_columns[0]
    if (key := row_key(content, rules.key_columns)) is None:
        _refuse("the key is null or blank", line, rules, column)
    if entry.content:
        has_own = row_key(entry.content, rules.key_columns) == entry.row_key
    else:
        has_own = not NAMED_BY_LINE.fullmatch(entry.row_key)
    if key != entry.row_key and has_own:
        _refuse(f"a row keeps its key, which is {entry.row_key!r}; {key!r} would be another row", line, rules, column)
    return key


def _answer(
    claims: Mapping[str, object], content: dict[str, Any], line: SheetLine, entry: SheetEntry, rules: EditRules
) -> bytes:
    """The answer given by a person, as JSON. It must pass all checks except grounding."""
    given = fields_to_fill_in(rules.answer)
    old = {name: value for name, value in (entry.answer or {}).items() if name in given}
    text = orjson.dumps({**old, **claims}).decode()
    verdict = judge_answer(
        text,
        answer=rules.answer,
        checks=rules.checks,
        built_in={},
        row=lambda: content,
        outputs=lambda: (),
        is_kept=True,
    )
    if verdict.failure:
        _refuse(f"the job's own code cannot judge it: {verdict.failure.words}", line, rules, "do")
    if verdict.problems:
        field = verdict.problems[0].partition(":")[0].partition(".")[0]
        called = {str(rules.answer.model_fields[attribute].alias): name for name, attribute in given.items()}
        field = called.get(field, field)  # pydantic calls it as the model does
        column = ANSWER + field if field in given else "do"
        _refuse("; ".join(verdict.problems), line, rules, column)
    return verdict.content


def _refuse(what: str, line: SheetLine, rules: EditRules, column: str) -> NoReturn:
    raise UserMistake(f"{what} (row {line.row_key!r})", file=rules.file, line=line.number, key=column)


def _cut(value: object) -> str:
    text = value_as_text(value)
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


WORDS = {"retry": "sent again", "discard": "given up"}

EDIT_CELLS = "edit its cells in a sheet: it was refused on admission"
AGAIN = "send it again"
LIMITS = {
    "loop": "repeats",
    "row_budget": "row_usd",
    "token_limit": "tokens",
    "tool_call_limit": "tool_calls",
    "truncated": "max_tokens",
    "turn_limit": "turns",
}
BY_THE_MODEL = (*LIMITS, "gate_failed", "not_verified", "refused", "context_full")  # another one may do better
OWN_CODE = "mend answer.py, which must bear this row; then send it again"
ADVICE = {
    "missing_key": "mend its key in a sheet, or drop it",
    "unusable_key": "give it a key that can be kept in a sheet, or drop it",
    "duplicate_key": "give it a key of its own in a sheet, or drop it",
    **dict.fromkeys(("not_csv", "not_json", "not_an_object", "too_large", "undecodable", "wrong_width"), EDIT_CELLS),
    "unreadable_value": EDIT_CELLS,
    **{
        reason: f"raise limits.{key} in job.yaml, then `rowtide amend`; {AGAIN}, or answer it yourself"
        for reason, key in LIMITS.items()
    },
    "after_quarantined": "mend the row it comes after, and send both again",
    "bounced_out": "send it again: the API was at fault",
    "discarded": "nothing: somebody gave it up; naming it takes it back",
    "gate_failed": "mend it, send it again, or answer it yourself",
    "edited": "send it again",
    "not_verified": "mend it, send it again, or answer it yourself",
    "refused": "mend it, or answer it yourself",
    "rejected": "mend it: the API takes no such request",
    **dict.fromkeys(("check_failed", "validator_failed", "serializer_failed"), OWN_CODE),
    "template_failed": "mend the row, or the template, which must bear it; then send it again",
}

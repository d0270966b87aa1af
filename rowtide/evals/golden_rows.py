"""Golden rows: read and check `golden.jsonl`, a line for each row whose right answer is known, and by whom.

    {"key": "III.L", "answer": {"country": "GB"}, "how": "every ISIN begins with GB", "by": "rule"}

`answer` may hold some of the answer's fields only. `by` is `rule`, `model` (or `model: opus`), or a person's name.
`pinned` rows must come out right, whatever the statistics say. `stratum` is how a row came to be golden: what stands in
`random`, which is meant where none is said, was drawn at random, and only that says how often a version is right; rows
that were taken because they had failed are a stratum of their own.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rowtide.errors import UserMistake, nearest_name
from rowtide.evals.comparers import Comparer
from rowtide.intake.exact_json import parse_json_exactly
from rowtide.intake.source_rows import key_fault
from rowtide.job.answer_fields import fields_to_fill_in, gate_column_names
from rowtide.job.job_code import JobCodeFailure, run_job_code
from rowtide.job.storable_answers import answer_from_json

GOLDEN_FILE = "golden.jsonl"
MOST_ROWS = 20_000  # more say nothing more
LINE_BYTES = 1_000_000
DEV_SHARE = 0.3  # of the golden rows; what a proposal may see
RANDOM = "random"
BOM = b"\xef\xbb\xbf"
LEGAL = ("key", "answer", "how", "by", "pinned", "stratum")
SHAPE = 'a golden row is {"key": …, "answer": {…}} on one line'

Part = Literal["dev", "confirm", "planted"]
"""What an eval asks. `planted`: the rows of `confirm`, of a candidate that is known to be worse; it proves the set and
no version, so it takes nothing of the set's level and lets nothing run."""
Labeller = Literal["person", "rule", "model", "unknown"]


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A row whose right answer is known, in whole or in part."""

    key: str
    answer: Mapping[str, Any]
    """Field → value, as JSON has it; at least one."""
    line: int
    """Its line in the file, from 1."""
    how: str = ""
    by: str = ""
    pinned: bool = False
    stratum: str = RANDOM

    @property
    def labeller(self) -> Labeller:
        """The kind of source of its answer; unknown when the row names none."""
        label = self.by.partition(":")[0].strip().casefold()
        return "rule" if label == "rule" else "model" if label == "model" else "person" if label else "unknown"


@dataclass(frozen=True, slots=True)
class GoldenCounts:
    """The numbers of golden rows in a file."""

    rows: int
    pinned: int
    by_stratum: Mapping[str, int]
    by_labeller: Mapping[Labeller, int]
    by_part: Mapping[Part, int]


def read_golden_rows(file: Path) -> list[GoldenRow]:
    """Return the rows of a golden file in its order; none when there is no such file.

    Raises UserMistake with file and line for the first line that cannot be read, repeats a key, or has an unknown key.
    """
    if not file.is_file():
        return []
    found: dict[str, GoldenRow] = {}
    with file.open("rb") as lines:
        for number, line in numbered_lines(lines, file, SHAPE):
            row = _golden_row(line, number, file)
            if (first := found.setdefault(row.key, row)) is not row:
                what = f"the key {row.key!r} stands on line {first.line} too; keep one of the two"
                raise UserMistake(what, file=file, line=number)
            if len(found) > MOST_ROWS:
                what = f"more than {MOST_ROWS:,} golden rows say nothing more; keep so many, drawn at random"
                raise UserMistake(what, file=file, line=number)
    return list(found.values())


def check_golden_rows(
    rows: Sequence[GoldenRow], answer: type[BaseModel], comparers: Mapping[str, Comparer], file: Path
) -> None:
    """Check that every golden answer, as far as it is given, fits the answer model, and that each of its fields has a
    comparer. Raises UserMistake with file and line.
    """
    known = gate_column_names(answer)
    for row in rows:
        for name in row.answer:
            if name not in known:
                what = f"the answer has no field {name!r}; fields: {', '.join(known)}"
                raise UserMistake(what, file=file, line=row.line, key=row.key, meant=nearest_name(name, known))
            if name not in comparers:
                what = (
                    f"{name} has no comparer: it is nested. Name one in job.yaml, or write "
                    f"compare_{name}(known, answered) in answer.py"
                )
                raise UserMistake(what, file=file, line=row.line, key=row.key)
        if what := _misfit(row, answer):
            raise UserMistake(what, file=file, line=row.line, key=row.key)


def rows_of_no_source(rows: Sequence[GoldenRow], source_keys: Iterable[str]) -> list[GoldenRow]:
    """Return the golden rows whose key is not in the source, in their order. `source_keys` may be streamed: none is
    kept.
    """
    missing = {row.key: row for row in rows}
    for key in source_keys:
        if missing.pop(key, None) and not missing:
            break
    return list(missing.values())


def check_golden_keys(rows: Sequence[GoldenRow], source_keys: Iterable[str], file: Path) -> None:
    """Check that every golden row is a row of the source. Raises UserMistake with the line of the first that is not."""
    if missing := rows_of_no_source(rows, source_keys):
        others = f" (nor those of {len(missing) - 1} more golden rows)" if len(missing) > 1 else ""
        what = f"no row of the source has the key {missing[0].key!r}{others}; mend the key, or take the row out"
        raise UserMistake(what, file=file, line=missing[0].line)


def golden_part_of(key: str, dev_share: float = DEV_SHARE) -> Part:
    """Return the part a golden row belongs to: `dev`, which proposals may see, or `confirm`, which they never see.

    The key alone decides: no other row, order or later addition moves a row to the other part. A larger `dev_share`
    moves rows out of `confirm`, and none into it.
    """
    digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8, person=b"golden split").digest()
    return "dev" if int.from_bytes(digest) < dev_share * 2**64 else "confirm"


def count_golden_rows(rows: Sequence[GoldenRow], dev_share: float = DEV_SHARE) -> GoldenCounts:
    """Count the golden rows: in all, pinned, by stratum, by kind of labeller, and by part."""
    return GoldenCounts(
        rows=len(rows),
        pinned=sum(row.pinned for row in rows),
        by_stratum=Counter(row.stratum for row in rows),
        by_labeller=Counter(row.labeller for row in rows),
        by_part=Counter(golden_part_of(row.key, dev_share) for row in rows),
    )


def numbered_lines(lines: BinaryIO, file: Path, shape: str) -> Iterable[tuple[int, bytes]]:
    """Return the lines that are not blank, with their numbers. One that is too long is never held. Raises
    UserMistake.
    """
    number = 0
    while line := lines.readline(LINE_BYTES + 1):
        number += 1
        if len(line) > LINE_BYTES:
            raise UserMistake(f"the line has more than {LINE_BYTES:,} bytes; {shape}", file=file, line=number)
        line = line.removeprefix(BOM) if number == 1 else line
        if line.strip():
            yield number, line


def object_of_line(
    line: bytes, number: int, file: Path, *, shape: str, thing: str, legal: Sequence[str]
) -> dict[str, Any]:
    """Return the JSON object of a line that has legal keys alone. Raises UserMistake, which calls it by `thing`."""
    try:
        value: Any = parse_json_exactly(line)
    except ValueError as error:
        raise UserMistake(f"not JSON: {error}; {shape}", file=file, line=number) from None
    if not isinstance(value, dict):
        raise UserMistake(shape, file=file, line=number)
    for name in value:
        if name not in legal:
            what = f"{name!r} is no key of {thing}; keys: {', '.join(legal)}"
            raise UserMistake(what, file=file, line=number, meant=nearest_name(name, legal))
    return value


def _golden_row(line: bytes, number: int, file: Path) -> GoldenRow:
    value = object_of_line(line, number, file, shape=SHAPE, thing="a golden row", legal=LEGAL)
    key = _key(value.get("key"))
    if what := _fault(key, value):
        raise UserMistake(what, file=file, line=number, key=key or None)
    label = {name: value[name] for name in ("how", "by", "stratum") if value.get(name) is not None}
    return GoldenRow(key, value["answer"], number, pinned=value.get("pinned", False), **label)


def _key(value: Any) -> str:
    """The key as the ledger spells it (`row_key`); empty where it is none."""
    if isinstance(value, list):  # of several columns
        parts = [_key(each) for each in value]
        return "" if not parts or not all(parts) else parts[0] if len(parts) == 1 else orjson.dumps(parts).decode()
    return str(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _fault(key: str, value: Mapping[str, Any]) -> str | None:
    if not key:
        return f"`key` must be the row's key; {SHAPE}"
    if what := key_fault(key):
        return f"{what}, so no row has it"
    if not isinstance(value.get("answer"), dict) or not value["answer"]:
        return f"`answer` must hold at least one field of the answer; {SHAPE}"
    if not isinstance(value.get("pinned", False), bool):
        return "`pinned` must be true or false"
    for name in ("how", "by", "stratum"):
        if not isinstance(value.get(name), str | None):
            return f"`{name}` must be a text"
    return "`stratum` must not be blank" if value.get("stratum") is not None and not value["stratum"].strip() else None


def _misfit(row: GoldenRow, answer: type[BaseModel]) -> str | None:
    """Why a golden answer is none that the model can give; None where it is. A field that is left out is no reason."""
    attributes = fields_to_fill_in(answer)
    given = {name: value for name, value in row.answer.items() if name in attributes}
    names = {*given, *(attributes[name] for name in given)}
    is_whole = len(given) == len(attributes)
    errors = run_job_code(
        "validator_failed", answer.__name__, Path("answer.py"), lambda: _errors(answer, orjson.dumps(given))
    )
    if isinstance(errors, JobCodeFailure):  # a validator of the whole answer may miss what was left out
        return errors.words if is_whole else None
    for error in errors:
        place = [str(part) for part in error["loc"]]
        if is_whole or (place and place[0] in names):
            text = f"{'.'.join(place)}: {error['msg']}" if place else error["msg"]
            return f"{text}; the answer model does not take it: correct the golden row, or the model"
    return None


def _errors(answer: type[BaseModel], content: bytes) -> list[ErrorDetails]:
    try:
        answer_from_json(answer, content)
    except ValidationError as error:
        return error.errors(include_url=False, include_context=False, include_input=False)
    return []

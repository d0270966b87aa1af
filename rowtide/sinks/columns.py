"""The columns of a sink: one for each answer field, compared with those of an earlier load, filled with answers.

Each sink has a type of its own for each kind of field (`answer_fields`). All columns but the key may be null, so that a
later model may add one, and may let a value be missing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson
from pydantic import BaseModel

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.answer_fields import LIST_OF, answer_fields
from rowtide.job.storable_answers import unstorable_values

KEY = "row_key"
LINEAGE = {"_run": "text", "_tier": "text", "_turns": "integer", "_cost_usd": "number", "_loaded_at": "datetime"}
DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
LONGEST_NAME = 63  # bytes; PostgreSQL cuts what is longer
SYSTEM_COLUMNS = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}  # of every table of PostgreSQL's
PARTITIONS = ("text", "integer", "boolean", "date")  # kinds that make good folders
WIDEST_NUMERIC = 16_000  # digits before and after the point; PostgreSQL's NUMERIC takes a few more


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a sink."""

    name: str
    kind: str
    is_nullable: bool = True


@dataclass(frozen=True, slots=True)
class SinkPage:
    """A page of rows for a sink: column → values, as JSON has them."""

    values: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.values[KEY])


def sink_columns(answer: type[BaseModel], *, lineage: bool) -> list[Column]:
    """Return the key, the answer's fields and, with `lineage`, the origin of each row. Raises UserMistake."""
    columns = [Column(KEY, "text", is_nullable=False)]
    columns += [Column(field.name, field.kind, field.is_nullable) for field in answer_fields(answer)]
    columns += [Column(name, kind) for name, kind in LINEAGE.items() if lineage]
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            raise UserMistake(
                "this column is the sink's own; call the field something else", file="answer.py", key=name
            )
    return columns


def check_table_names(columns: Sequence[Column]) -> None:
    """Raise UserMistake for names that differ only in case, or that are too long for a table."""
    seen: dict[str, str] = {}
    for name in (column.name for column in columns):
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise UserMistake(f"a table cannot tell {name!r} from {other!r}", file="answer.py", key=name)
        if name in SYSTEM_COLUMNS:
            raise UserMistake("is a column of PostgreSQL's own in every table; rename it", file="answer.py", key=name)
        if len(name.encode()) > LONGEST_NAME:
            raise UserMistake(f"a table's column has at most {LONGEST_NAME} bytes", file="answer.py", key=name)


def check_partition(columns: Sequence[Column], name: str) -> None:
    """Raise UserMistake unless the partition is one plain column."""
    kinds = {column.name: column.kind for column in columns if column.name != KEY}
    if name not in kinds:
        meant = nearest_name(name, kinds)
        raise UserMistake(f"the answer has no field {name!r}", file="job.yaml", key="sink.partition_by", meant=meant)
    if kinds[name] not in PARTITIONS:
        words = f"{name!r} is {kinds[name]}; folders are made of {', '.join(PARTITIONS)}"
        raise UserMistake(words, file="job.yaml", key="sink.partition_by")


def columns_to_add(before: Mapping[str, str], now: Sequence[Column], *, sink: str) -> list[Column]:
    """Return the columns to add to a sink that has those of `before` (name → kind). Raises UserMistake for an
    incompatible change.
    """
    kinds = {column.name: column.kind for column in now}
    for name, kind in before.items():
        if name not in kinds:
            edit = "say `sink.lineage: true` again" if name in LINEAGE else "put the field back into answer.py"
            words = f"stands there as {kind}, and is no longer loaded: {edit}, or load into another place"
            raise UserMistake(
                words, file=sink, key=name, meant=nearest_name(name, [n for n in kinds if n not in before])
            )
        if kinds[name] != kind:
            words = (
                f"is {kind} there and {kinds[name]} now: give the field its type back, give it another name, "
                "or load into another place"
            )
            raise UserMistake(words, file=sink, key=name)
    new = [column for column in now if column.name not in before]
    for column in new:
        if not column.is_nullable:
            words = (
                f"is new ({column.kind}), and rows that are loaded already have no value for it: let it be None "
                "(`… | None`) in answer.py, or load into another place"
            )
            raise UserMistake(words, file=sink, key=column.name)
    return new


def unloadable_rows(contents: Sequence[bytes]) -> dict[int, str]:
    """Return the rows that no sink can hold unaltered: place in the page → why."""
    if not unstorable_values(b"[%b]" % b",".join(contents)):
        return {}
    found = {place: unstorable_values(content) for place, content in enumerate(contents)}
    return {place: f"{what[0][0]}: {what[0][1]}" for place, what in found.items() if what}


def page_of_answers(
    columns: Sequence[Column], keys: Sequence[str], contents: Sequence[bytes], **lineage: list[Any]
) -> SinkPage:
    """Return answers (JSON objects) as a page of columns."""
    answers = [orjson.loads(content) for content in contents]
    values: dict[str, list[Any]] = {KEY: list(keys)}
    for name in (column.name for column in columns if column.name != KEY):
        values[name] = lineage[name] if name in lineage else [answer.get(name) for answer in answers]
    return SinkPage(values)


def rows_of_page(page: SinkPage, places: range) -> SinkPage:
    """Return the rows at these places of a page, as a page."""
    return SinkPage({name: values[places.start : places.stop] for name, values in page.values.items()})


def native_values(kind: str, values: Sequence[Any]) -> Sequence[Any]:
    """Return JSON values as Python's own: dates, times in UTC, decimals, lists of these; objects as JSON text.

    Raises ValueError, TypeError or ArithmeticError for one that is none.
    """
    if kind.startswith(LIST_OF):
        convert = _to_native(kind.removeprefix(LIST_OF))
        return [_each(convert, each) if each else each for each in values]
    return _each(_to_native(kind), values)


def flat_values(kind: str, values: Sequence[Any]) -> Sequence[Any]:
    """Return JSON values as text, numbers and booleans only: lists and objects as JSON text, times in UTC.

    Raises as `native_values` does.
    """
    if kind == "number" and int in set(map(type, values)):
        return _each(_exact, values)
    return _each(_json if kind.startswith(LIST_OF) else FLAT.get(kind), values)


def _to_native(kind: str) -> Callable[[Any], Any] | None:
    return Decimal if DECIMAL.fullmatch(kind) else NATIVE.get(kind)


def _each(convert: Callable[[Any], Any] | None, values: Sequence[Any]) -> Sequence[Any]:
    return values if convert is None else [None if value is None else convert(value) for value in values]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _exact(value: float) -> float:
    """A number as a double. Raises ValueError for an integer that a double cannot hold."""
    if int(float(value)) != value and isinstance(value, int):
        raise ValueError(f"{value} does not fit a double")
    return float(value)


def _numeric(value: str) -> str:
    """A decimal that PostgreSQL's NUMERIC holds unaltered. Raises ValueError for one with too many digits or places."""
    if len(value) > WIDEST_NUMERIC or "E" in value:
        _, digits, exponent = Decimal(value).as_tuple()
        if isinstance(exponent, int) and not -WIDEST_NUMERIC < exponent < WIDEST_NUMERIC - len(digits):
            raise ValueError(f"{value[:40]} has more than {WIDEST_NUMERIC:,} digits on one side of its point")
    return value


def _moment(value: str) -> datetime:
    """A time without a zone is taken for UTC."""
    moment = datetime.fromisoformat(value)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _utc(value: str) -> str:
    return _moment(value).isoformat(timespec="microseconds").replace("+00:00", "Z")


NATIVE: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "json": _json,
    "date": date.fromisoformat,
    "datetime": _moment,
    "datetime without zone": datetime.fromisoformat,
}
FLAT: dict[str, Callable[[Any], Any]] = {"text": _text, "json": _json, "datetime": _utc, "decimal": _numeric}

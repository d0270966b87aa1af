"""The columns of a sink: read off the answer model, compared with those of an earlier load, filled with answers.

A column's kind is a word: text, integer, number, boolean, date, datetime, decimal, decimal(10,2), json, or "list of"
one of these. Each sink has a type of its own for each kind. All columns but the key may be null, so that a later model
may add one, and may let a value be missing.
"""

import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

import orjson
from pydantic import BaseModel

from rowtide.errors import UserMistake, nearest

KEY = "row_key"
LINEAGE = {"_run": "text", "_tier": "text", "_turns": "integer", "_cost_usd": "number", "_loaded_at": "datetime"}
LIST_OF = "list of "
DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
WIDEST_DECIMAL = 38  # digits; what Parquet and DuckDB hold
WIDEST_INTEGER = 2**63
INTEGERS = ("integer", LIST_OF + "integer")
LONGEST_NAME = 63  # bytes; PostgreSQL cuts what is longer
PARTITIONS = ("text", "integer", "boolean", "date")  # kinds that make good folders
# What no table or reader can be trusted with; looked for in a whole page at once, and rarely found.
NUL = rb"\u0000"
DIGITS, LONG = bytes.maketrans(b"123456789", b"0" * 9), b"0" * 19


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a sink."""

    name: str
    kind: str
    is_nullable: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows on their way into a sink: column → values, as JSON has them."""

    values: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.values[KEY])


def columns_of(answer: type[BaseModel], *, lineage: bool) -> list[Column]:
    """The key, the answer's fields, and where each row comes from if that is wanted. Raises UserMistake."""
    by_alias = bool(answer.model_config.get("serialize_by_alias"))
    columns = [Column(KEY, "text", is_nullable=False)]
    for name, field in answer.model_fields.items():
        if not field.exclude:
            shown = (field.serialization_alias if by_alias else None) or name
            columns.append(Column(shown, kind_of(field.annotation, field.metadata), _is_nullable(field.annotation)))
    for name, computed in answer.model_computed_fields.items():
        columns.append(Column(name, kind_of(computed.return_type), _is_nullable(computed.return_type)))
    columns += [Column(name, kind) for name, kind in LINEAGE.items() if lineage]
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            raise UserMistake(
                "this column is the sink's own; call the field something else", file="answer.py", key=name
            )
    return columns


def check_table_names(columns: Sequence[Column]) -> None:
    """A table takes no two names that differ in case only, nor very long ones. Raises UserMistake."""
    seen: dict[str, str] = {}
    for name in (column.name for column in columns):
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise UserMistake(f"a table cannot tell {name!r} from {other!r}", file="answer.py", key=name)
        if len(name.encode()) > LONGEST_NAME:
            raise UserMistake(f"a table's column has at most {LONGEST_NAME} bytes", file="answer.py", key=name)


def check_partition(columns: Sequence[Column], name: str) -> None:
    """Folders are made of one plain column. Raises UserMistake."""
    kinds = {column.name: column.kind for column in columns if column.name != KEY}
    if name not in kinds:
        meant = nearest(name, kinds)
        raise UserMistake(f"the answer has no field {name!r}", file="job.yaml", key="sink.partition_by", meant=meant)
    if kinds[name] not in PARTITIONS:
        words = f"{name!r} is {kinds[name]}; folders are made of {', '.join(PARTITIONS)}"
        raise UserMistake(words, file="job.yaml", key="sink.partition_by")


def added(before: Mapping[str, str], now: Sequence[Column], *, sink: str) -> list[Column]:
    """The columns that a sink with those of `before` (name → kind) must get. Raises UserMistake for one that breaks."""
    kinds = {column.name: column.kind for column in now}
    for name, kind in before.items():
        if name not in kinds:
            mend = "say `sink.lineage: true` again" if name in LINEAGE else "put the field back into answer.py"
            words = f"stands there as {kind}, and is no longer loaded: {mend}, or load into another place"
            raise UserMistake(words, file=sink, key=name, meant=nearest(name, [n for n in kinds if n not in before]))
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


def kind_of(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """The kind of column that holds what a field of this type looks like in JSON."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(args[0], [*metadata, *args[1:]])
    if hasattr(annotation, "__value__"):  # type X = …
        return kind_of(annotation.__value__, metadata)
    if hasattr(annotation, "__supertype__"):  # NewType
        return kind_of(annotation.__supertype__, metadata)
    if origin is Literal:
        return _one({kind_of(type(arg)) for arg in args if arg is not None})
    if origin in (Union, types.UnionType):
        return _one({kind_of(arg, metadata) for arg in args if arg is not types.NoneType})
    if isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset):
        element = _one({kind_of(arg) for arg in args if arg is not Ellipsis})
        return "json" if element == "json" or element.startswith(LIST_OF) else LIST_OF + element
    return _kind_of_class(annotation, metadata) if isinstance(annotation, type) and origin is None else "json"


def _one(kinds: set[str]) -> str:
    if len(kinds) == 1:
        return kinds.pop()
    if kinds == {"integer", "number"}:
        return "number"
    return "json" if any(kind == "json" or kind.startswith(LIST_OF) for kind in kinds) else "text"


def _kind_of_class(annotation: type, metadata: Sequence[Any]) -> str:
    if issubclass(annotation, Enum):
        return _one({kind_of(type(member.value)) for member in annotation})
    if issubclass(annotation, Decimal):
        return _decimal(metadata)
    if issubclass(annotation, BaseModel | dict | list | tuple | set | frozenset) or is_typeddict(annotation):
        return "json"
    if annotation in (object, Any) or hasattr(annotation, "__dataclass_fields__"):
        return "json"
    # A bool is an int and a datetime is a date. What else there is (UUID, URL, time) is text in JSON.
    return next((kind for plain, kind in PLAIN.items() if issubclass(annotation, plain)), "text")


PLAIN = {bool: "boolean", int: "integer", float: "number", datetime: "datetime", date: "date"}


def _decimal(metadata: Sequence[Any]) -> str:
    """A decimal, of a size if it is known to have one that fits: no digit may be lost."""
    told = [*metadata, *(each for info in metadata for each in getattr(info, "metadata", ()))]
    digits = next((each.max_digits for each in told if getattr(each, "max_digits", None) is not None), None)
    places = next((each.decimal_places for each in told if getattr(each, "decimal_places", None) is not None), None)
    return "decimal" if digits is None or places is None or digits > WIDEST_DECIMAL else f"decimal({digits},{places})"


def _is_nullable(annotation: Any) -> bool:
    if annotation in (None, types.NoneType, Any):
        return True
    if hasattr(annotation, "__value__"):
        return _is_nullable(annotation.__value__)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin not in (Annotated, Union, types.UnionType, Literal):
        return False
    return any(map(_is_nullable, args[:1] if origin is Annotated else args))


def unfit(columns: Sequence[Column], page: Page, contents: Sequence[bytes]) -> dict[int, str]:
    """Rows that no sink can be trusted to hold as they are: place in the page → why."""
    told = b"\n".join(contents)
    has_integers = any(column.kind in INTEGERS for column in columns)
    if NUL not in told and not (has_integers and LONG in told.translate(DIGITS)):
        return {}
    found: dict[int, str] = {}
    for column in columns:
        is_integer = column.kind in INTEGERS
        for place, value in enumerate(page.values[column.name]):
            if is_integer and any(not _fits(each) for each in (value if isinstance(value, list) else [value])):
                found.setdefault(place, f"{column.name}: does not fit a 64-bit integer")
            elif _holds_nul(value):
                found.setdefault(place, f"{column.name}: holds a NUL character")
    return found


def _fits(value: Any) -> bool:
    return value is None or (isinstance(value, int) and -WIDEST_INTEGER <= value < WIDEST_INTEGER)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_holds_nul(each) for each in (*value, *value.values()))
    return any(map(_holds_nul, value)) if isinstance(value, list) else isinstance(value, str) and "\0" in value


def as_page(columns: Sequence[Column], keys: Sequence[str], contents: Sequence[bytes], **lineage: list[Any]) -> Page:
    """Answers (JSON objects) as columns."""
    answers = [orjson.loads(content) for content in contents]
    values: dict[str, list[Any]] = {KEY: list(keys)}
    for name in (column.name for column in columns if column.name != KEY):
        values[name] = lineage[name] if name in lineage else [answer.get(name) for answer in answers]
    return Page(values)


def without_rows(page: Page, places: set[int]) -> Page:
    """The page without the rows at these places."""
    if not places:
        return page
    return Page({name: [v for n, v in enumerate(each) if n not in places] for name, each in page.values.items()})


def native(kind: str, values: Sequence[Any]) -> Sequence[Any]:
    """JSON values as Python's own: dates, times in UTC, decimals, lists of these; objects as JSON text."""
    if kind.startswith(LIST_OF):
        convert = _to_native(kind.removeprefix(LIST_OF))
        return [[convert(v) for v in each] if each and convert else each for each in values]
    return _each(_to_native(kind), values)


def flat(kind: str, values: Sequence[Any]) -> Sequence[Any]:
    """JSON values as text, numbers and booleans only: lists and objects as JSON text, times in UTC."""
    return _each(_json if kind.startswith(LIST_OF) else FLAT.get(kind), values)


def _to_native(kind: str) -> Callable[[Any], Any] | None:
    return Decimal if DECIMAL.fullmatch(kind) else NATIVE.get(kind)


def _each(convert: Callable[[Any], Any] | None, values: Sequence[Any]) -> Sequence[Any]:
    return values if convert is None else [None if value is None else convert(value) for value in values]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


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
}
FLAT: dict[str, Callable[[Any], Any]] = {"text": _text, "json": _json, "datetime": _utc}

"""The column type of a table for each kind of field, and which types of an existing table can hold it."""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import CHAR, REAL, BigInteger, Boolean, Date, DateTime, Double, Float, Integer, Numeric, String, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import JSON, NullType, TypeEngine

from rowtide.job.answer_fields import LIST_OF
from rowtide.sinks.columns import DECIMAL

Types = Mapping[str, TypeEngine[Any]]

COMMON: Types = {"text": Text(), "boolean": Boolean(), "date": Date(), "datetime without zone": DateTime()}
TYPES: Mapping[str, Types] = {
    "sqlite": {
        **COMMON,
        "integer": Integer(),
        "number": Double(),
        "datetime": DateTime(),
        "decimal": Text(),  # its NUMERIC is a float
        "json": Text(),
    },
    "postgresql": {
        **COMMON,
        "integer": BigInteger(),
        "number": Double(),
        "datetime": DateTime(timezone=True),
        "decimal": Numeric(),
        "json": postgresql.JSONB(),
    },
}
# What a table that somebody else made may have for each kind.
TAKES: Mapping[str, tuple[type[TypeEngine[Any]], ...]] = {
    "text": (String,),
    "integer": (Integer, Numeric),
    "number": (Numeric,),
    "boolean": (Boolean,),
    "date": (Date,),
    "datetime": (DateTime,),
    "datetime without zone": (DateTime,),
    "decimal": (Numeric, String),
    "json": (JSON, String),
}
MICROSECONDS = 6  # digits of a second


def plain_kind(kind: str) -> str:
    """Return a kind without its size; a kind of list becomes JSON, as tables hold it."""
    return "json" if kind.startswith(LIST_OF) else kind.partition("(")[0]


def column_accepts_kind(found: TypeEngine[Any], kind: str, dialect: str) -> bool:
    """Return whether a column of this type alters no value of the kind: it stores it exactly, or fails."""
    if isinstance(found, NullType):
        return True
    alters = {"sqlite": _sqlite_alters, "postgresql": _postgres_alters}[dialect]
    return isinstance(found, TAKES[plain_kind(kind)]) and not alters(found, kind)


def _sqlite_alters(found: TypeEngine[Any], kind: str) -> bool:
    """SQLite's NUMERIC is a double, which holds no decimal, nor an integer above 2⁵³."""
    return (
        isinstance(found, Float) if kind == "integer" else plain_kind(kind) == "decimal" and isinstance(found, Numeric)
    )


def _postgres_alters(found: TypeEngine[Any], kind: str) -> bool:
    """PostgreSQL rounds to the places of a NUMERIC, to a REAL and to parts of a second, drops zones, pads a CHAR."""
    match found:
        case Float():
            return kind != "number" or isinstance(found, REAL)
        case Numeric(scale=int(places), precision=int(digits)):
            size = DECIMAL.fullmatch(kind)
            return kind != "integer" and not (size and decimal_fits(size, digits, places))
        case CHAR():
            return True
        case DateTime():
            precise = getattr(found, "precision", None) in (None, MICROSECONDS)
            return not precise or bool(found.timezone) is not (kind == "datetime")
        case _:
            return False


def decimal_fits(size: re.Match[str], digits: int, places: int) -> bool:
    """Return whether decimal(n,m) fits a column of `digits` digits, `places` of them after the point."""
    wanted, behind = int(size[1]), int(size[2])
    return behind <= places and wanted - behind <= digits - places

"""The type of a table's column for each kind of field, and the types of a table of somebody's own that will do."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Boolean, Date, DateTime, Double, Integer, Numeric, String, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import JSON, NullType, TypeEngine

from rowtide.job.answer_fields import LIST_OF

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


def plain(kind: str) -> str:
    """A kind without its size; a list is JSON to a table."""
    return "json" if kind.startswith(LIST_OF) else kind.partition("(")[0]


def takes(found: TypeEngine[Any], kind: str) -> bool:
    """Whether a column of this type holds every value of a kind as it is."""
    return isinstance(found, (*TAKES[plain(kind)], NullType))

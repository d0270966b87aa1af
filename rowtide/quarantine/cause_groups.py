"""Groups quarantined rows whose causes say the same of different values."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

KEYS_SHOWN = 5
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_NUMBER = re.compile(r"\d[\d.,]*")


class Cause(NamedTuple):
    """Why one row is in quarantine."""

    row_key: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class CauseGroup:
    """Quarantined rows with one reason and the same cause, values aside."""

    reason: str
    signature: str
    """What they share: with `'…'` for what is quoted and `#` for numbers."""
    example: str
    """Of the first row, as it was written."""
    rows: int
    row_keys: tuple[str, ...]
    """Of the first `KEYS_SHOWN`."""


def group_causes(causes: Iterable[Cause]) -> list[CauseGroup]:
    """Return the groups, largest first."""
    groups: dict[tuple[str, str], list[Cause]] = {}
    for each in causes:
        groups.setdefault((each.reason, cause_signature(each.detail)), []).append(each)
    found = [
        CauseGroup(*group, rows[0].detail, len(rows), tuple(each.row_key for each in rows[:KEYS_SHOWN]))
        for group, rows in groups.items()
    ]
    return sorted(found, key=lambda group: -group.rows)


def named_rows(row_keys: Sequence[str], rows: int) -> str:
    """`a, b and 7 more`: the keys there are, of so many rows."""
    more = rows - len(row_keys)
    return ", ".join(row_keys) + (f" and {more:,} more" if more else "")


def cause_signature(cause: str) -> str:
    """Return the cause without its values: quoted texts and numbers."""
    return _NUMBER.sub("#", _QUOTED.sub("'…'", cause))

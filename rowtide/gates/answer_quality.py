"""The quality of a run's answers at a glance, field by field: different values, the commonest one, the shortest text.

Counted page by page. Memory does not grow with the rows: after `DISTINCT_COUNTED` different values of a field, new ones
are no longer told apart.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

DISTINCT_COUNTED = 10_000
LONGEST = 60  # characters of a value that is kept as it is; a longer one is told from others by its hash


@dataclass(frozen=True, slots=True)
class FieldQuality:
    """One field, over all accepted answers of a run."""

    rows: int
    """Answers that have a value: null is none."""
    distinct: int
    """Different values; `DISTINCT_COUNTED` where there are that many or more."""
    top: str
    """The commonest value as JSON, or empty where it is too long to be shown."""
    top_rows: int
    """The answers with that value."""
    shortest: int | None
    """Characters of the shortest text; None where no value is a text."""

    @property
    def top_share(self) -> float:
        """From 0 to 1."""
        return self.top_rows / self.rows if self.rows else 0.0


@dataclass
class _Field:
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    shortest: int | None = None

    def add(self, value: Any) -> None:
        self.rows += 1
        if isinstance(value, str) and (self.shortest is None or len(value.strip()) < self.shortest):
            self.shortest = len(value.strip())
        key = _key(value)
        if key in self.counts or len(self.counts) < DISTINCT_COUNTED:
            self.counts[key] += 1

    def quality(self) -> FieldQuality:
        top, top_rows = next(iter(self.counts.most_common(1)), ("", 0))
        return FieldQuality(self.rows, len(self.counts), top if top[:1] != "#" else "", top_rows, self.shortest)


class AnswerQuality:
    """Counts the values of each field, page by page."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = {name: _Field() for name in fields}

    def add(self, page: Sequence[Mapping[str, Any]]) -> None:
        """Count one more page of answers."""
        for name, counted in self._fields.items():
            for answer in page:
                if (value := answer.get(name)) is not None:
                    counted.add(value)

    def fields(self) -> dict[str, FieldQuality]:
        """Field → its quality, in the order of the answer model."""
        return {name: counted.quality() for name, counted in self._fields.items()}

    def metrics(self) -> dict[str, float | None]:
        """Return the metrics that a load gate may name: `distinct.FIELD`, `top_share.FIELD`, `shortest.FIELD`."""
        found: dict[str, float | None] = {}
        for name, each in self.fields().items():
            found |= {
                f"distinct.{name}": each.distinct,
                f"top_share.{name}": each.top_share,
                f"shortest.{name}": each.shortest,
            }
        return found


def _key(value: Any) -> str:
    """A value's JSON, or a hash of it with a leading `#` (which no JSON begins with) where it is long."""
    content = orjson.dumps(value)
    return content.decode() if len(content) <= LONGEST else "#" + hashlib.blake2b(content, digest_size=12).hexdigest()

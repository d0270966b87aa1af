"""The interface of a source: its columns, known before a run begins, and its records, read in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rowtide.intake.source_rows import BadRow, SourceRow

Weighed = Iterator[tuple[int, SourceRow | BadRow]]
"""(approximate size in bytes, record) of each record."""


@dataclass(frozen=True, slots=True)
class SourceShape:
    """What is known of a source before its rows are read."""

    columns: Sequence[str]
    notes: Sequence[str] = field(default_factory=list[str])
    """How it is read, if not the usual way, and which values are converted."""


class Source(Protocol):
    """A place that rows come from."""

    def shape(self) -> SourceShape:
        """Return the columns, and notes on how they are read. Raises UserMistake."""
        ...

    def records(self) -> Weighed:
        """Yield the records in order; an unreadable one is a BadRow. Raises UserMistake if the rest cannot be read."""
        ...

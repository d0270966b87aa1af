"""What a source is: columns that are known before a run begins, and records that are read one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rowtide.intake.source_rows import BadRow, SourceRow

Weighed = Iterator[tuple[int, SourceRow | BadRow]]
"""Each record with about how many bytes it is."""


@dataclass(frozen=True, slots=True)
class SourceShape:
    """What is known of a source before its rows are read."""

    columns: Sequence[str]
    notes: Sequence[str] = field(default_factory=list[str])
    """How it is read, where that is not the usual way, and what becomes of values that no row can hold."""


class Source(Protocol):
    """Somewhere rows come from."""

    def shape(self) -> SourceShape:
        """Its columns and what is to be said of how it is read. Raises UserMistake where it cannot be."""
        ...

    def records(self) -> Weighed:
        """Its records in order. One that cannot be read is a BadRow. Raises UserMistake where all after it are lost."""
        ...

"""The interface of a sink: accepted rows are written part by part, so that writing again changes nothing."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rowtide.job.job_spec import SinkSpec
from rowtide.sinks.columns import Column, SinkPage


@dataclass(frozen=True, slots=True)
class Place:
    """What a sink is opened with: what the job says of it, its columns, and what paths are relative to."""

    spec: SinkSpec
    columns: Sequence[Column]
    home: Path
    """Folders are relative to it."""
    folder: Path | None
    """The job's: the file of a database is relative to it."""
    environment: Mapping[str, str]


class Part(Protocol):
    """A part that is being written, while no other process writes to the sink."""

    def keys_held(self, part: str, keys: set[str]) -> set[str]:
        """Return the keys that another part holds, even a half-written one."""
        ...

    def write(self, page: SinkPage) -> Mapping[int, str]:
        """Write some rows. Returns the refused ones: place in the page → why."""
        ...

    def finish(self, replaced: Mapping[str, set[str]], /) -> None:
        """Publish the part, and remove the rows it replaces (older part → keys)."""
        ...

    def take_out(self, parts: Mapping[str, set[str]]) -> None:
        """Instead of writing a part: remove rows (part → keys). Repeating it changes nothing."""
        ...


class Sink(Protocol):
    """A place to write accepted rows to."""

    @property
    def location(self) -> str:
        """The sink's location, for people and for the ledger; no secrets."""
        ...

    def check(self) -> None:
        """Raise UserMistake when the existing data and the columns to load are incompatible."""
        ...

    def writing(self, part: str, *, has_taken: bool = False) -> AbstractContextManager[Part]:
        """Write a part; the sink is locked for this process until the block ends. A part not finished leaves no trace.

        `has_taken` says that the sink has taken rows of the same run: if it takes none now, then that is their fault.
        """
        ...

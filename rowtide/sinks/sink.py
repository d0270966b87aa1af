"""What a sink is: somewhere accepted rows go, written part by part so that writing again changes nothing."""

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
    """A part that is being written, while nobody else writes to the sink."""

    def keys_held(self, part: str, keys: set[str]) -> set[str]:
        """Those of the keys that stand in another part, which may be half written."""
        ...

    def write(self, page: SinkPage) -> Mapping[int, str]:
        """Write some rows. Returns those that the sink does not take: place in the page → why."""
        ...

    def finish(self, replaced: Mapping[str, set[str]], /) -> None:
        """Let the part stand; take what it replaces (older part → keys) out of where that stood."""
        ...

    def take_out(self, parts: Mapping[str, set[str]]) -> None:
        """Instead of a part: take rows (part → keys) out of where they stand. Doing so twice changes nothing."""
        ...


class Sink(Protocol):
    """Somewhere accepted rows go."""

    @property
    def location(self) -> str:
        """Where that is, for people and for the ledger; no secrets."""
        ...

    def check(self) -> None:
        """Raise UserMistake when what stands there and what would be loaded do not go together."""
        ...

    def writing(self, part: str, *, has_taken: bool = False) -> AbstractContextManager[Part]:
        """The sink is this process's alone until the block ends. A part that is not finished leaves no trace.

        `has_taken` says that the sink has taken rows of the same run: if it takes none now, then that is their fault.
        """
        ...

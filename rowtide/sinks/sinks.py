"""Where accepted rows go: a folder of parts, or a table; written so that writing again changes nothing."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from rowtide.database_url import database_url
from rowtide.intake.sources import expand_variables
from rowtide.job.job_spec import SinkSpec
from rowtide.sinks.columns import Column, SinkPage, check_partition, check_table_names, sink_columns
from rowtide.sinks.sink_duckdb import DuckTable
from rowtide.sinks.sink_files import FolderSink
from rowtide.sinks.sink_tables import TableSink


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


def open_sink(
    spec: SinkSpec, home: Path, answer: type[BaseModel], environment: Mapping[str, str], folder: Path | None = None
) -> tuple[Sink, list[Column]]:
    """The sink a job names, and its columns. Raises UserMistake.

    Relative folders are under `home`; the relative file of a database is in the job's `folder`.
    """
    columns = sink_columns(answer, lineage=spec.lineage)
    if spec.kind != "sql":
        if spec.partition_by is not None:
            check_partition(columns, spec.partition_by)
        return FolderSink(home / (spec.path or ""), spec.kind, columns, spec.partition_by), columns
    check_table_names(columns)
    url = database_url(expand_variables(spec.url or "", environment), "sink.url", folder)
    table = DuckTable if url.get_backend_name() == "duckdb" else TableSink
    return table(url, spec.table or "", columns), columns

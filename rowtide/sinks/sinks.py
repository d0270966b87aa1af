"""The registry of sinks, and `open_sink`, which opens the sink that a job names."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from rowtide.database_url import database_url
from rowtide.intake.sources import expand_variables
from rowtide.job.job_spec import SinkSpec
from rowtide.sinks.columns import Column, check_table_names, sink_columns
from rowtide.sinks.sink import Place, Sink
from rowtide.sinks.sink_duckdb import DuckTable
from rowtide.sinks.sink_files import open_folder_sink
from rowtide.sinks.sink_formats import CSV, JSON_LINES, PARQUET
from rowtide.sinks.sink_sql import TableSink


def open_table_sink(place: Place) -> Sink:
    """Open a table of the database that the job's URL names, as a sink. Raises UserMistake."""
    check_table_names(place.columns)
    url = database_url(expand_variables(place.spec.url or "", place.environment), "sink.url", place.folder)
    table = DuckTable if url.get_backend_name() == "duckdb" else TableSink
    return table(url, place.spec.table or "", place.columns)


SINKS: Mapping[str, Callable[[Place], Sink]] = {
    "parquet": partial(open_folder_sink, PARQUET),
    "csv": partial(open_folder_sink, CSV),
    "jsonl": partial(open_folder_sink, JSON_LINES),
    "sql": open_table_sink,
}


def open_sink(
    spec: SinkSpec, home: Path, answer: type[BaseModel], environment: Mapping[str, str], folder: Path | None = None
) -> tuple[Sink, list[Column]]:
    """Return the sink a job names, and its columns. Raises UserMistake.

    Relative folders are under `home`; the relative file of a database is in the job's `folder`.
    """
    columns = sink_columns(answer, lineage=spec.lineage)
    return SINKS[spec.kind](Place(spec, columns, home, folder, environment)), columns

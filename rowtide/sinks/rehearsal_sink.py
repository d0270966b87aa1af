"""The sink of a rehearsal: a folder of its own, so that no made-up answer reaches the job's sink."""

from dataclasses import replace
from os.path import normpath
from pathlib import Path

from rowtide.api.api_identity import OWN_EMULATOR
from rowtide.job.job_folder import Job
from rowtide.job.job_spec import SinkSpec

RESULTS = Path("results")


def with_rehearsal_sink(job: Job, api: str) -> Job:
    """Return the job with a rehearsal's sink, where the emulator that Rowtide started answers it; else unchanged."""
    if api != OWN_EMULATOR:
        return job
    return replace(job, spec=job.spec.model_copy(update={"sink": rehearsal_sink(job.spec.sink)}))


def rehearsal_sink(sink: SinkSpec) -> SinkSpec:
    """Return the sink as a folder under the rehearsal's home; a table becomes a Parquet folder of its name."""
    if sink.is_table:
        named = RESULTS / (sink.table or "").replace("/", "_")
        return SinkSpec(path=named, lineage=sink.lineage, part_rows=sink.part_rows)
    path = Path(normpath(sink.path or RESULTS))
    if path.is_absolute() or ".." in path.parts:
        path = RESULTS / path.name.replace("..", "")
    return sink.model_copy(update={"path": path})

"""Checks a job's parts, each by itself: source, gates, tool servers, sink.

`preflight` checks the same and stops at the first mistake; here the other parts are checked too.
"""

from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

from rowtide.intake.sources import source_display_name, source_shape
from rowtide.job.job_folder import Job
from rowtide.job.job_spec import ToolServerSpec
from rowtide.sinks.sinks import open_sink
from rowtide.stages.diagnose.findings import Finding, examine
from rowtide.stages.preflight import check_gates
from rowtide.tools.tools import ToolPool


async def examine_source(job: Job, environment: Mapping[str, str]) -> list[Finding]:
    """Check the source's columns, as far as they are known before its rows are read, and the gates that name them.

    Raises UserMistake for the source; what is wrong with a gate is a finding of its own.
    """
    shape = source_shape(job.spec.source, job.folder, environment)
    columns = ", ".join(shape.columns[:6]) + (", …" if len(shape.columns) > 6 else "")
    found = Finding("source", "ok", f"{source_display_name(job.spec.source, job.folder)}: {columns}")
    return [found, *await examine("gates", partial(_examine_gates, job, shape.columns))]


async def _examine_gates(job: Job, columns: Collection[str]) -> list[Finding]:
    """Check that Great Expectations accepts each gate's file, with existing columns. Raises UserMistake."""
    named = [name for name in ("rows", "answers", "load") if getattr(job.spec.gates, name) is not None]
    if not named:
        return [Finding("gates", "ok", "the job has none")]
    check_gates(job, columns)
    return [Finding("gates", "ok", f"{', '.join(named)}: Great Expectations takes them")]


async def examine_tool_server(
    job: Job, name: str, spec: ToolServerSpec, environment: Mapping[str, str]
) -> list[Finding]:
    """Start a server, list its tools, and call one that only reads and needs no arguments."""
    subject = f"tools.{name}"
    if spec.placement != "local":
        return [Finding(subject, "skipped", "the API itself calls it")]
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(ToolPool({name: spec}, job.folder, environment, output_chars=2000))
        tools = await pool.catalogue()
        listed = f"it starts and lists {len(tools)} {'tool' if len(tools) == 1 else 'tools'} for the job"
        harmless = [t for t in tools if not (t.may_write or t.asks or t.input_schema.get("required"))]
        if not harmless:
            return [Finding(subject, "ok", f"{listed}; none can be called without arguments")]
        tool = harmless[0]
        outcome = await pool.call(tool.wire_name, {})
    if outcome.is_error:
        return [Finding(subject, "warning", f"{listed}; {tool.name} without arguments answers: {outcome.text:.200}")]
    return [Finding(subject, "ok", f"{listed}; {tool.name} answers")]


async def examine_sink(job: Job, home: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Check that the sink's columns fit the answer, and that its folder can be written. Raises UserMistake."""
    sink, columns = open_sink(job.spec.sink, home, job.answer, environment, job.folder)
    sink.check()
    if job.spec.sink.kind != "sql":
        folder = (home / (job.spec.sink.path or "")).absolute()
        there = next(each for each in (folder, *folder.parents) if each.exists())
        try:
            with TemporaryFile(dir=there):
                pass
        except OSError as error:
            advice = "let this user write there, or move `sink.path`"
            return [Finding("sink", "failed", f"{there} cannot be written: {error.strerror}", advice)]
    return [Finding("sink", "ok", f"{sink.location}: {len(columns)} columns")]

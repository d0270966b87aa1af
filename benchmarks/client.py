"""One run of a job in a process of its own, and what that process used."""

import asyncio
import atexit
import os
import sys
import time

import orjson

from benchmarks.mcp_meter import Meter
from benchmarks.stages import Stages, process
from benchmarks.used import cpu_seconds, peak_mb

STAGE = "stage "


def main() -> None:
    """Run `JOB SOURCE RUN_ID WORKER`. Prints each stage that begins, and last what was used, as JSON."""
    job, source, run_id, worker = sys.argv[1:]
    atexit.register(close_stderr)  # registered first, so it is called last
    from flows.run_job import run_job  # noqa: PLC0415 # so that what importing costs can be told apart
    from rowtide import tracing  # noqa: PLC0415 # likewise

    meter = Meter()
    stages = Stages(lambda name: _print(f"{STAGE}{name}"), lambda: {**process(), **meter.seconds()})
    tracing.use_provider(stages)
    imported = cpu_seconds()
    started = time.perf_counter()
    found = asyncio.run(meter.run(run_job.with_options(flow_run_name=worker)(job, source=source, run_id=run_id)))
    cpu = cpu_seconds() - imported
    in_stages = {name: seconds["process"] for name, seconds in stages.seconds.items()}
    used = {
        "cpu_seconds": cpu,
        "mcp_seconds": meter.seconds().get("mcp", 0.0) + stages.seconds["follow_up"]["loop"],
        "import_cpu_seconds": imported,
        "wall_seconds": time.perf_counter() - started,
        "peak_mb": peak_mb(),
        "stages": {**in_stages, "between": cpu - sum(in_stages.values())},
        "task_runs": stages.task_runs,
    }
    _print(orjson.dumps({**found, **used}).decode())


def close_stderr() -> None:
    """As the command line does: DuckDB's bindings list what they take to be leaked when the interpreter goes."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""One run of a job in a process of its own, and what that process used."""

import asyncio
import atexit
import os
import resource
import sys
import time

import orjson


def main() -> None:
    """Run `JOB SOURCE RUN_ID` and print CPU seconds, peak megabytes and wall seconds as JSON."""
    job, source, run_id = sys.argv[1:]
    atexit.register(close_stderr)  # registered first, so it is called last
    from flows.run_job import run_job  # noqa: PLC0415 # so that what importing costs can be told apart

    imported = _cpu_seconds()
    started = time.perf_counter()
    found = asyncio.run(run_job.with_options(flow_run_name=run_id)(job, source=source, run_id=run_id))
    used = {
        "cpu_seconds": _cpu_seconds() - imported,
        "import_cpu_seconds": imported,
        "wall_seconds": time.perf_counter() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(orjson.dumps({**found, **used}).decode() + "\n")


def close_stderr() -> None:
    """As the command line does: DuckDB's bindings list what they take to be leaked when the interpreter goes."""
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()

"""What the MCP client alone costs: so many calls of a job's tools, and nothing else."""

import asyncio
import atexit
import os
import sys
from pathlib import Path

import orjson

from benchmarks.client import close_stderr
from benchmarks.used import cpu_seconds
from rowtide import garbage
from rowtide.job.job_folder import load_job
from rowtide.work import tool_pool

PAGE = 1000  # as many as a page of rows puts on the wire at once


async def used(job: Path, calls: int) -> float:
    """CPU seconds of `calls` calls, over what starting the servers costs."""
    loaded = load_job(job)
    async with tool_pool(loaded, os.environ, loaded.spec.tools) as pool:
        await pool.catalogue()
        garbage.settle()  # as the flow does
        began = cpu_seconds()
        for first in range(0, calls, PAGE):
            numbers = range(first, min(first + PAGE, calls))
            await asyncio.gather(*(pool.call("orders__find_order", {"order_number": str(n)}) for n in numbers))
        return cpu_seconds() - began


if __name__ == "__main__":
    atexit.register(close_stderr)
    job, calls = Path(sys.argv[1]), int(sys.argv[2])
    sys.stdout.write(orjson.dumps({"cpu_seconds": asyncio.run(used(job, calls)), "rows": calls}).decode() + "\n")

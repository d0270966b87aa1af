"""What a call of a tool costs us: of a job's own function, and of the same function behind an MCP server over stdio.

    python -m benchmarks.function_calls [CALLS]

CPU of this process alone, per call, through the pool that rows' calls go through; the ratio says more than the figures.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools.tools import ToolPool

CALLS, WARM = 10_000, 200
MOST_MS = 0.15  # of our CPU that a call of a function may take
FUNCTIONS = '''
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}
'''
SERVER = """
from mcp.server import MCPServer
from mcp_types import ToolAnnotations

from tools import add

server = MCPServer("own")
server.tool(annotations=ToolAnnotations(read_only_hint=True))(add)
server.run()
"""
PLACES: Mapping[str, Mapping[str, object]] = {
    "a function": {"python": "tools.py"},
    "a server": {"command": "python", "args": ["server.py"]},
}


class Cost(NamedTuple):
    """Milliseconds per call."""

    cpu: float
    wall: float


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tools.py").write_text(FUNCTIONS)
        Path(folder, "server.py").write_text(SERVER)
        found = {name: asyncio.run(_cost(Path(folder), spec, calls)) for name, spec in PLACES.items()}
    print(f"{f'{calls:,} calls of':<18}{'our CPU a call':>16}{'wall a call':>14}")
    for name, cost in found.items():
        print(f"{name:<18}{cost.cpu:>13.3f} ms{cost.wall:>11.3f} ms")
    ratio = found["a function"].cpu / found["a server"].cpu
    print(f"a function costs us {ratio:.2f} × a server's call; at most {MOST_MS} ms is wanted")


async def _cost(folder: Path, spec: Mapping[str, object], calls: int) -> Cost:
    specs, environment = {"own": ToolServerSpec.model_validate(spec)}, {"PATH": os.environ["PATH"]}
    async with ToolPool(specs, folder, environment, 5000) as pool:
        asked: list[tuple[str, dict[str, object]]] = [("own__add", {"a": n, "b": 1}) for n in range(calls)]
        await pool.call_all(asked[:WARM])
        cpu, wall = time.process_time(), time.perf_counter()
        outcomes = await pool.call_all(asked)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if wrong := [each.text for each in outcomes if each.is_error]:
        raise RuntimeError(f"{len(wrong)} calls failed, such as: {wrong[0]}")
    return Cost(1000 * cpu / calls, 1000 * wall / calls)


if __name__ == "__main__":
    main()

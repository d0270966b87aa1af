"""What of a client's CPU is its MCP client's: `mcp`, `anyio`, our module that speaks through them, and their pipes.

Every coroutine of the event loop is measured whenever it runs, in the CPU time of its thread. What is in none of them
is the loop's own; while tools are called, that is the reading and writing of the servers' pipes.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Literal

Kind = Literal["ours", "mcp", "loop"]

PLACES = ("/mcp/", "/anyio/", "/rowtide/tools/tool_sessions.py", "/rowtide/tools/programs.py")


class Meter:
    """CPU seconds of one thread, by whose coroutine runs."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()
        self._kind: Kind = "loop"
        self._since = time.thread_time()

    def seconds(self) -> dict[str, float]:
        """Up to now."""
        self.enter(self._kind)
        return dict(self._seconds)

    def enter(self, kind: Kind) -> Kind:
        """Count what follows as `kind`. Returns what it was counted as before."""
        now = time.thread_time()
        self._seconds[self._kind] += now - self._since
        before, self._kind, self._since = self._kind, kind, now
        return before

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it as ours, with every task that is made meanwhile as whoever's it is."""
        from rowtide.tools.tool_sessions import McpSession  # noqa: PLC0415 # importing it is not to be measured

        def task(loop: asyncio.AbstractEventLoop, made: Any, **more: Any) -> asyncio.Task[Any]:
            return asyncio.Task(_Metered(self, _whose(made), made), loop=loop, **more)

        call = McpSession.call
        McpSession.call = lambda *given, **named: _Metered(self, "mcp", call(*given, **named))  # pyright: ignore[reportAttributeAccessIssue] # put back below
        asyncio.get_running_loop().set_task_factory(task)
        try:
            return await _Metered(self, "ours", coroutine)
        finally:
            asyncio.get_running_loop().set_task_factory(None)
            McpSession.call = call


def _whose(coroutine: Any) -> Kind:
    code = getattr(coroutine, "cr_code", None)
    return "mcp" if code and any(place in code.co_filename for place in PLACES) else "ours"


class _Metered(Coroutine[Any, Any, Any]):
    def __init__(self, meter: Meter, kind: Kind, inner: Any) -> None:
        self._meter, self._kind, self._inner = meter, kind, inner

    def send(self, value: Any) -> Any:
        return self._counted(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._counted(self._inner.throw, *error)

    def _counted(self, step: Callable[..., Any], *given: Any) -> Any:
        before = self._meter.enter(self._kind)
        try:
            return step(*given)
        finally:
            self._meter.enter(before)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self  # pyright: ignore[reportReturnType] # it has all that `await` asks of one

    def __next__(self) -> Any:
        return self.send(None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # anyio asks a task's coroutine how far it is

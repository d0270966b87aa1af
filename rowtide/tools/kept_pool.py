"""Tool servers that outlive the stage that started them: to start one takes a second, and stages follow each other.

They end when nobody has called them for a moment: a batch may take hours, and a connection that old is not trusted with
a call that writes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Protocol, TypeVar

from rowtide.tools.tools import ToolPool

T = TypeVar("T")

IDLE_SECONDS = 5.0


class RunCoroutine(Protocol):
    """Runs a coroutine to its end, as `asyncio.run` does."""

    def __call__(self, each: Coroutine[Any, Any, T], /) -> T: ...


class KeptPool:
    """At most one pool, for stages that run one after another on one event loop."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._made_of: object = None
        self._pool: ToolPool | None = None
        self.ending: asyncio.Task[None] | None = None
        """What ends the servers, when nobody has called them for a while."""

    @asynccontextmanager
    async def opened(self, made_of: object, make: Callable[[], ToolPool]) -> AsyncGenerator[ToolPool]:
        """The pool that was kept, if it was made of the same; else a new one."""
        self._go_on()
        if self._pool is None or self._made_of != made_of:
            await self._stop()
            self._made_of, self._pool = made_of, make()
        pool = self._pool
        try:
            yield pool
        finally:
            self.ending = asyncio.create_task(self._end_soon(0 if pool.is_unhealthy else self._idle_seconds))

    async def end(self) -> None:
        """End the servers."""
        self._go_on()
        await self._stop()

    def _go_on(self) -> None:
        if self.ending is not None:
            self.ending.cancel()

    async def _end_soon(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._stop()

    async def _stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.stop()


_kept: ContextVar[KeptPool | None] = ContextVar("kept_pool", default=None)


@asynccontextmanager
async def keep_tool_servers(idle_seconds: float = IDLE_SECONDS) -> AsyncGenerator[None]:
    """Let stages inside the block share tool servers, which end with it, or when nobody called one for `idle_seconds`.

    Inside another such block it changes nothing: the outer one's servers are shared.
    """
    if _kept.get() is not None:
        yield
        return
    with _keeping(KeptPool(idle_seconds)) as kept:
        try:
            yield
        finally:
            await kept.end()


@contextmanager
def one_event_loop() -> Generator[RunCoroutine]:
    """An event loop for the length of the block, on which one coroutine runs after another; they share tool servers."""
    with asyncio.Runner() as runner, _keeping(KeptPool()) as kept:

        def run(each: Coroutine[Any, Any, T]) -> T:
            return runner.run(each, context=copy_context())  # not the context of the first run

        try:
            yield run
        finally:
            run(kept.end())


@contextmanager
def _keeping(kept: KeptPool) -> Generator[KeptPool]:
    before = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(before)


@asynccontextmanager
async def pool_of(made_of: object, make: Callable[[], ToolPool]) -> AsyncGenerator[ToolPool]:
    """The pool that is kept here; where none is kept, one for the length of the block."""
    if (kept := _kept.get()) is not None:
        async with kept.opened(made_of, make) as pool:
            yield pool
        return
    async with make() as pool:
        yield pool

"""Calls functions that may never return: each in its own thread, with a time limit, and with a bound on the threads.

Not asyncio.to_thread: its few threads are shared by everybody, so one database that never answers stops all; and the
end of the process waits for them.
"""

import asyncio
import threading
from asyncio import Future
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Got = TypeVar("Got")


class BoundedThreads:
    """A bounded number of threads, any of which may hang. They end with the process."""

    def __init__(self, most: int) -> None:
        self._free = most

    async def call(
        self, within_seconds: float | None, call: Callable[Given, Got], *given: Given.args, **named: Given.kwargs
    ) -> Got:
        """Return what the call returns or raises. Raises TimeoutError after `within_seconds`, or when all threads hang;
        the call itself goes on.
        """
        if not self._free:
            raise TimeoutError("earlier calls have not returned")
        self._free -= 1
        loop = asyncio.get_running_loop()
        future: Future[Got] = loop.create_future()

        def work() -> None:
            try:
                outcome: tuple[Any, BaseException | None] = (call(*given, **named), None)
            except BaseException as error:  # noqa: BLE001 # whoever waits is to have it, whatever it was
                outcome = (None, error)
            with suppress(RuntimeError):  # nobody waits: the loop is closed
                loop.call_soon_threadsafe(self._hand_over, future, *outcome)

        threading.Thread(target=work, daemon=True, name=getattr(call, "__name__", "call")).start()
        async with asyncio.timeout(within_seconds):
            return await future

    def _hand_over(self, future: "Future[Any]", value: object, error: BaseException | None) -> None:
        self._free += 1
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

"""Begins a run when its job's version is permitted to run; until then a person is asked by a form."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from rowtide.errors import NoPassingVerdict
from tasks.ask_version import ask_version

R = TypeVar("R")


async def when_permitted(begin: Callable[[], Awaitable[R]]) -> R:
    """Begin a run. Where its version requires an eval and has not passed one, ask a person by a form on the flow run's
    page, and go on at their word.

    Raises NoPassingVerdict where nobody can be asked, VersionStopped where a person was asked before, and RunStopped
    where the person stops it.
    """
    await ask_version()  # what this flow run had asked when it was suspended
    while True:
        try:
            return await begin()
        except NoPassingVerdict as refused:
            await ask_version(refused)

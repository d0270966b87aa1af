"""What every stage has in common."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from orchestration.set_up_observability import set_up_observability
from rowtide.stages.orchestrator import current_orchestrator
from rowtide.tracing import span

P = ParamSpec("P")
R = TypeVar("R")


def durable(stage: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Have a stage called by whoever orchestrates: in a flow it is a Prefect task, elsewhere it is called at once.

    It may be called again at any time. Either of the two does so when the world has failed it.
    """

    @wraps(stage)
    async def observed(*args: P.args, **parameters: P.kwargs) -> R:
        set_up_observability()
        with span(f"rowtide.{stage.__name__}", rowtide__run_id=_run_id(args)):
            return await stage(*args, **parameters)

    @wraps(stage)
    async def called(*args: P.args, **parameters: P.kwargs) -> R:
        return await current_orchestrator().call(observed, *args, **parameters)

    return called


def _run_id(args: tuple[object, ...]) -> str | None:
    """Of a stage of one run, which has nothing but its id to work on."""
    return args[0] if len(args) == 1 and isinstance(args[0], str) else None

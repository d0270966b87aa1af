"""The decorator of every stage: tracing, and retries by the orchestrator."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from orchestration.set_up_observability import set_up_observability
from rowtide.stages.orchestrator import current_orchestrator
from rowtide.tracing import span

P = ParamSpec("P")
R = TypeVar("R")


def durable(stage: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Have the orchestrator call the stage: in a flow as a Prefect task, elsewhere directly.

    The stage may be called again at any time. Both retry it after faults of the world.
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
    """Return the run id of a stage whose only argument it is, else None."""
    return args[0] if len(args) == 1 and isinstance(args[0], str) else None

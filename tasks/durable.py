"""What every stage has in common as a Prefect task."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from rowtide.errors import StoppedByWorld, WorldError
from rowtide.observing.tracing import span
from tasks.observe import observe

P = ParamSpec("P")
R = TypeVar("R")


def durable(stage: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Make a stage a Prefect task that may be run again at any time.

    The ledger is the memory, so Prefect remembers nothing. Only the world's faults are worth another try.
    """

    @wraps(stage)
    async def observed(*args: P.args, **parameters: P.kwargs) -> R:
        observe()
        with span(f"rowtide.{stage.__name__}", rowtide__run_id=_run_id(args)):
            return await stage(*args, **parameters)

    return task(
        name=stage.__name__,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=4,
        retry_delay_seconds=[2, 10, 60, 300],
        retry_condition_fn=_is_worth_another_try,
    )(observed)


def _run_id(args: tuple[object, ...]) -> str | None:
    """Of a stage of one run, which has nothing but its id to work on."""
    return args[0] if len(args) == 1 and isinstance(args[0], str) else None


async def _is_worth_another_try(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, WorldError) and not isinstance(error, StoppedByWorld)

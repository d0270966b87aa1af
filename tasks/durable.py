"""What every stage has in common as a Prefect task."""

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from rowtide.errors import StoppedByWorld, WorldError

P = ParamSpec("P")
R = TypeVar("R")


def durable(stage: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Make a stage a Prefect task that may be run again at any time.

    The ledger is the memory, so Prefect remembers nothing. Only the world's faults are worth another try.
    """
    return task(
        name=stage.__name__,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=4,
        retry_delay_seconds=[2, 10, 60, 300],
        retry_condition_fn=_is_worth_another_try,
    )(stage)


async def _is_worth_another_try(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, WorldError) and not isinstance(error, StoppedByWorld)

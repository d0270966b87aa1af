"""Wraps a stage as a Prefect task."""

from collections.abc import Callable
from functools import cache
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from rowtide.stages.orchestrator import RETRY_AFTER_SECONDS, is_retryable


@cache
def as_task(stage: Callable[..., Any]) -> Task[..., Any]:
    """Return the stage as a task. Nothing is cached, for the ledger is the memory; only faults of the world are
    retried.
    """
    return task(
        name=stage.__name__,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_AFTER_SECONDS),
        retry_delay_seconds=list(RETRY_AFTER_SECONDS),
        retry_condition_fn=_is_the_worlds_fault,
    )(stage)


async def _is_the_worlds_fault(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    return is_retryable(await state.aresult(raise_on_failure=False))

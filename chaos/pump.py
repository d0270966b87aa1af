"""The pump without Prefect's engine: the stages in the order of `flows/run_job.py`, for speed.

A Prefect retry is a call again, at once.
"""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from prefect.artifacts import Artifact

from rowtide.errors import StoppedByWorld, WorldError
from tasks.converse import converse
from tasks.extract import extract
from tasks.follow_up import follow_up
from tasks.load import load
from tasks.report import report
from tasks.route import route
from tasks.submit import submit
from tasks.validate import validate
from tasks.wait import wait

TRIES = 5

OnStage = Callable[[str], None]


async def pump(
    job: str, run_id: str, on_stage: OnStage, budget: float | None = None, lane: str = "batch"
) -> dict[str, Any]:
    """Take the job's rows from its source to its sink, as the flow does. `on_stage` hears each stage's name."""

    async def go(stage: Any, *args: Any) -> Any:
        on_stage(stage.name)
        return await _try(stage.fn, *args)

    Artifact.acreate = _nowhere
    run = await go(extract, job, None, run_id, None, lane, budget)
    await go(route, run)
    while await go(submit, run):
        await go(converse, run)
        await go(wait, run)
        await go(follow_up, run)
        await go(validate, run)
    await go(load, run)
    return await go(report, run)


async def _try(stage: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    for left in reversed(range(TRIES)):
        try:
            return await stage(*args)
        except StoppedByWorld:
            raise
        except WorldError:
            if not left:
                raise
    raise AssertionError


async def _nowhere(*_: object) -> Any:
    """There is no Prefect server to show the summary."""
    return SimpleNamespace(id=uuid4())

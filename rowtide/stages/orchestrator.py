"""The interface to whoever calls the stages: an orchestrator such as Prefect, or this process alone.

A stage calls `current_orchestrator()` and does not know which it is. This is the implementation for a process alone;
Prefect's is in `orchestration/under_prefect.py`.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from rowtide.errors import StoppedByWorld, WorldError
from rowtide.escaping import Markdown
from rowtide.job.run_id import new_run_id
from rowtide.observing.event_log import logger

RETRY_AFTER_SECONDS = (2, 10, 60, 300)  # seconds before each further try of a stage that the world failed

NOTHING: Mapping[str, str | None] = MappingProxyType({})

log = logger(__name__)

R = TypeVar("R")
Form = TypeVar("Form", bound=BaseModel)


def is_retryable(error: object) -> bool:
    """Return whether the same call may succeed later: after a fault of the world that no person must end."""
    return isinstance(error, WorldError) and not isinstance(error, StoppedByWorld)


class Orchestrator:
    """This process alone: stages are called and retried here, and nothing is shown."""

    can_suspend = False
    """Whether a run can leave this process and be resumed in another."""

    def __init__(self, pauses: Sequence[float] = RETRY_AFTER_SECONDS) -> None:
        self._pauses = pauses

    @property
    def flow_run_id(self) -> str | None:
        """The id of the orchestrator's record of this process's work."""
        return None

    def name_run(self, job: str, now: datetime) -> str:
        """Return a new, unique run id."""
        return new_run_id(job, now, secrets.token_hex(2))

    async def call(self, stage: Callable[..., Awaitable[R]], *args: Any, **parameters: Any) -> R:
        """Call a stage; retry after each pause while it raises a retryable WorldError."""
        for pause in self._pauses:
            try:
                return await stage(*args, **parameters)
            except WorldError as error:
                if not is_retryable(error):
                    raise
                log.warning("%s: %s; tried again in %g s", getattr(stage, "__name__", stage), error, pause)
                await asyncio.sleep(pause)
        return await stage(*args, **parameters)

    async def name(self, words: str, labels: Mapping[str, str | None] = NOTHING) -> None:
        """Set the name of this process's work in lists. Labels are merged; None removes one."""

    async def show_text(self, words: Markdown, *, key: str, about: str) -> None:
        """Publish a Markdown text; `about` describes it in plain text."""

    async def show_table(self, table: list[dict[str, Any]], *, key: str, about: str) -> None:
        """Publish a table of plain texts and numbers."""

    async def show_progress(self, percent: float, words: str) -> None:
        """Publish the run's progress, in percent and words, in place of the previous one."""

    def emit(
        self, event: str, kind: str, subject: str, payload: Mapping[str, Any], *, job: str, event_id: UUID
    ) -> None:
        """Emit an event about a run or a job (`kind`); events with the same id count once."""

    async def suspend(self, key: str) -> None:
        """Suspend the run and leave this process; each key suspends once."""
        raise NotImplementedError

    async def ask(self, form: type[Form], words: Markdown, *, key: str) -> Form:
        """Suspend the run until a person has filled in a form; called again with the key, return the answer."""
        raise NotImplementedError


ALONE = Orchestrator()

_orchestrator: ContextVar[Orchestrator] = ContextVar("orchestrator", default=ALONE)


def current_orchestrator() -> Orchestrator:
    """Return the orchestrator that calls the stages here."""
    return _orchestrator.get()


@contextmanager
def orchestrated_by(who: Orchestrator) -> Generator[None]:
    """Use `who` as orchestrator for the length of the block."""
    before = _orchestrator.set(who)
    try:
        yield
    finally:
        _orchestrator.reset(before)

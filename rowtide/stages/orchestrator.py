"""Who calls the stages, and who is shown what they have to say: an orchestrator, or nobody but this process.

A stage asks `current_orchestrator()` and does not know which. What stands here is for a process that is alone; what
Prefect makes of the same is in `orchestration/under_prefect.py`.
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

RETRY_AFTER_SECONDS = (2, 10, 60, 300)  # how long a stage that the world failed waits before each further try

NOTHING: Mapping[str, str | None] = MappingProxyType({})

log = logger(__name__)

R = TypeVar("R")
Form = TypeVar("Form", bound=BaseModel)


def is_retryable(error: object) -> bool:
    """Whether the same call may succeed later: only the world's faults, and not those that a person must end."""
    return isinstance(error, WorldError) and not isinstance(error, StoppedByWorld)


class Orchestrator:
    """This process alone: stages are called at once and tried again here, and there is nobody to show anything."""

    can_suspend = False
    """Whether a run can leave this process and be woken in another."""

    def __init__(self, pauses: Sequence[float] = RETRY_AFTER_SECONDS) -> None:
        self._pauses = pauses

    @property
    def flow_run_id(self) -> str | None:
        """The orchestrator's own record of this process's work."""
        return None

    def name_run(self, job: str, now: datetime) -> str:
        """A name that no other run has."""
        return new_run_id(job, now, secrets.token_hex(2))

    async def call(self, stage: Callable[..., Awaitable[R]], *args: Any, **parameters: Any) -> R:
        """Call a stage; again after each pause while the world fails it."""
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
        """Call this process's work so, in lists of what was done. Labels are added; None takes an earlier one away."""

    async def show_text(self, words: Markdown, *, key: str, about: str) -> None:
        """Put a text in Markdown where people look. What it is about is plain text."""

    async def show_table(self, table: list[dict[str, Any]], *, key: str, about: str) -> None:
        """The same with a table of plain texts and numbers."""

    async def show_progress(self, percent: float, words: str) -> None:
        """Say how far the run has come, in plain words; what was said before is replaced."""

    def emit(
        self, event: str, kind: str, subject: str, payload: Mapping[str, Any], *, job: str, event_id: UUID
    ) -> None:
        """Tell whoever listens for events of a run or a job (`kind`); the same id is the same event."""

    async def suspend(self, key: str) -> None:
        """Leave this process; a key is good for one suspension."""
        raise NotImplementedError

    async def ask(self, form: type[Form], words: Markdown, *, key: str) -> Form:
        """Leave this process until a person has answered a form; asked again with the key, it finds the answer."""
        raise NotImplementedError


ALONE = Orchestrator()

_orchestrator: ContextVar[Orchestrator] = ContextVar("orchestrator", default=ALONE)


def current_orchestrator() -> Orchestrator:
    """Whoever calls the stages here."""
    return _orchestrator.get()


@contextmanager
def orchestrated_by(who: Orchestrator) -> Generator[None]:
    """Have stages called by `who` for the length of the block."""
    before = _orchestrator.set(who)
    try:
        yield
    finally:
        _orchestrator.reset(before)

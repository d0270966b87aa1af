"""Prefect as the orchestrator: each stage is a task, and its output is shown on the flow run's page."""

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from httpx import HTTPError
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import PrefectException
from prefect.flow_runs import asuspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import BaseModel

from blocks.operator_blocks import OperatorBlocks
from configuration.operator import with_operator
from orchestration.as_task import as_task
from orchestration.name_flow_run import name_flow_run
from orchestration.show_logs_on_page import show_logs_on_page
from orchestration.update_progress_artifact import update_progress_artifact
from rowtide.escaping import Markdown, escape_markdown
from rowtide.job.run_id import new_run_id
from rowtide.observing.event_log import logger
from rowtide.stages.orchestrator import NOTHING, Orchestrator, orchestrated_by

log = logger(__name__)

R = TypeVar("R")
Form = TypeVar("Form", bound=BaseModel)


@contextmanager
def under_prefect() -> Generator[None]:
    """Have Prefect call the stages, and its blocks in force, for the length of the block. Every flow begins with it."""
    show_logs_on_page()
    with with_operator(OperatorBlocks()), orchestrated_by(_Prefect()):
        yield


class _Prefect(Orchestrator):
    """Shows what it can: when Prefect's API fails, the run goes on."""

    @property
    def can_suspend(self) -> bool:
        """Only a deployment's flow run can be resumed."""
        context = FlowRunContext.get()
        return context is not None and context.flow_run is not None and context.flow_run.deployment_id is not None

    @property
    def flow_run_id(self) -> str:
        return str(flow_run.id)

    def name_run(self, job: str, now: datetime) -> str:
        return new_run_id(job, now, self.flow_run_id[-4:])

    async def call(self, stage: Callable[..., Awaitable[R]], *args: Any, **parameters: Any) -> R:
        return await as_task(stage)(*args, **parameters)

    async def name(self, words: str, labels: Mapping[str, str | None] = NOTHING) -> None:
        await _if_reachable(name_flow_run(words, labels))

    async def show_text(self, words: Markdown, *, key: str, about: str) -> None:
        await _if_reachable(acreate_markdown_artifact(words, key=key, description=escape_markdown(about)))

    async def show_table(self, table: list[dict[str, Any]], *, key: str, about: str) -> None:
        cells = [{name: _cell(value) for name, value in row.items()} for row in table]
        await _if_reachable(acreate_table_artifact(cells, key=key, description=escape_markdown(about)))

    async def show_progress(self, percent: float, words: str) -> None:
        await _if_reachable(update_progress_artifact(percent, escape_markdown(words)))

    def emit(
        self, event: str, kind: str, subject: str, payload: Mapping[str, Any], *, job: str, event_id: UUID
    ) -> None:
        resource = {"prefect.resource.id": f"rowtide.{kind}.{subject}", "prefect.resource.name": subject, "job": job}
        related = [{"prefect.resource.id": f"rowtide.job.{job}", "prefect.resource.role": "job"}]
        emit_event(f"rowtide.{event}", resource, related=related, payload=dict(payload), id=event_id)

    async def suspend(self, key: str) -> None:
        await asuspend_flow_run(key=key)

    async def ask(self, form: type[Form], words: Markdown, *, key: str) -> Form:
        shown = RunInput.subclass_from_base_model_type(form).with_initial_data(description=words)
        given = await asuspend_flow_run(wait_for_input=shown, key=key)
        assert isinstance(given, form)
        return given


def _cell(value: object) -> object:
    """Escape a cell of Prefect's tables, which render text as Markdown."""
    return value if value is None or isinstance(value, bool | int | float) else escape_markdown(value)


async def _if_reachable(shown: Awaitable[object]) -> None:
    try:
        await shown
    except (HTTPError, PrefectException) as error:
        log.warning("the flow run's page was not updated, because Prefect did not answer: %s", error)

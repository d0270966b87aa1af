"""Prefect's flow, for a run from a terminal: imported only by who runs under Prefect."""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from cli.prefect_server import login
from flows.run_job import run_job


@contextmanager
def flow_at(url: str | None) -> Generator[Callable[..., Awaitable[dict[str, Any]]]]:
    """The flow on the server at `url`; None: on one that Prefect starts, and ends with this process."""
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: login() if url else None}):
        yield run_job  # pyright: ignore[reportReturnType] # its overloads hide that it is awaited

"""A client of Prefect's API, inside or outside a run."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.client.orchestration import PrefectClient
from prefect.client.utilities import get_or_create_client


@asynccontextmanager
async def prefect_client() -> AsyncGenerator[PrefectClient]:
    """Return the client of the present flow or task run, else a new one, which takes 45 ms to read certificates."""
    client, is_the_runs_own = get_or_create_client()
    if is_the_runs_own:
        yield client
        return
    async with client:
        yield client

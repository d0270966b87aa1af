"""Prefect's API, for whoever is in a run or is not."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.client.orchestration import PrefectClient
from prefect.client.utilities import get_or_create_client


@asynccontextmanager
async def prefect_client() -> AsyncGenerator[PrefectClient]:
    """The client of the flow or task run we are in: a new one reads the machine's certificates, which takes 45 ms."""
    client, is_the_runs_own = get_or_create_client()
    if is_the_runs_own:
        yield client
        return
    async with client:
        yield client

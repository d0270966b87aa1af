"""Reads block documents from the Prefect server when they are needed, so that a change takes effect at once."""

import time
from http import HTTPStatus
from typing import Any

import httpx
from prefect.client.schemas.objects import BlockDocument
from prefect.runtime import flow_run
from prefect.settings import get_current_settings

from blocks.prefect_client import prefect_client
from rowtide.errors import WorldError

NAME = "default"
LOOK_AGAIN_SECONDS = 60.0
MOST = 200  # blocks of a kind: Prefect's page limit

# (kind, API, flow run) without a block → when that was seen.
_absent: dict[tuple[str, str, str | None], float] = {}


async def read_default_block(slug: str) -> dict[str, Any] | None:
    """Return the block of this kind named `default`, or None. Raises WorldError when Prefect does not answer."""
    return (await read_all_blocks(slug)).get(NAME)


async def read_all_blocks(slug: str) -> dict[str, dict[str, Any]]:
    """Return every block of this kind by name. Raises WorldError when Prefect does not answer.

    One API call; if there was no block, none until the next flow run or for a minute. Empty without a Prefect API.
    """
    url = get_current_settings().api.url
    if not url:
        return {}
    here = (slug, url, flow_run.id)
    if time.monotonic() - _absent.get(here, float("-inf")) < LOOK_AGAIN_SECONDS:
        return {}
    for seen in [each for each in _absent if each[0] == slug]:
        del _absent[seen]
    found = await _read(slug)
    if not found:
        _absent[here] = time.monotonic()
    return {each.name: dict(each.data) for each in found if each.name}


async def _read(slug: str) -> list[BlockDocument]:
    try:
        async with prefect_client() as client:
            return await client.read_block_documents_by_type(slug, limit=MOST, include_secrets=True)
    except httpx.HTTPStatusError as error:
        if error.response.status_code == HTTPStatus.NOT_FOUND:
            return []  # the kind is not registered
        raise WorldError(f"Prefect did not say whether there is a block {slug}: {error}") from error
    except httpx.HTTPError as error:
        words = f"Prefect did not say whether there is a block {slug}: {type(error).__name__}: {error}"
        raise WorldError(words) from error

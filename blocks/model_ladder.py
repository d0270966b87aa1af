"""Models, prices and ladders, changed without a deploy."""

import os
import time
from pathlib import Path
from typing import Any

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from pydantic import Field, HttpUrl, model_validator

from rowtide.errors import WorldError
from rowtide.ladder.catalogue import NOTHING, Overrides, load_catalogue, overrides_from, read_overrides

SLUG, NAME = "rowtide-ladder", "default"
LOOK_AGAIN_SECONDS = 60.0


class ModelLadder(Block):
    """Models, prices and ladders, over those of the package and of the jobs.

    Example:
        Load a ladder and see what it comes to:
        ```python
        from blocks.model_ladder import ModelLadder

        ladder = ModelLadder.load("BLOCK_NAME")
        ladder.get_overrides()
        ```
    """

    _block_type_name = "Model Ladder"
    _block_type_slug = SLUG
    _description = "Models, prices and ladders: what differs from models.yaml and from job.yaml, without a deploy."
    _documentation_url = HttpUrl("https://docs.claude.com/en/docs/about-claude/pricing")

    models: dict[str, dict[str, Any] | None] = Field(
        default={},
        description="What is different in the model catalogue, in the shape of models.yaml: name, then key and value.",
    )
    tiers: dict[str, list[str]] = Field(
        default={}, description="The ladder of a job, by the job's name; the name * stands for every other job."
    )

    @model_validator(mode="after")
    def _makes_a_catalogue(self) -> "ModelLadder":
        load_catalogue(self.get_overrides())
        return self

    def get_overrides(self) -> Overrides:
        """What it says, as the catalogue takes it. Raises UserMistake."""
        return overrides_from({"models": self.models, "tiers": self.tiers}, f"block {SLUG}/{NAME}")


async def overrides_in_force() -> Overrides:
    """What an operator says: the block where there is a Prefect API, else the file ROWTIDE_MODELS names, else nothing.

    One call to the API; where it had no such block, none until it may have one again: in the next flow run, or after
    a minute. Raises WorldError when the API does not say, and UserMistake.
    """
    if (stored := await _stored()) is not None:
        return ModelLadder.model_validate(stored).get_overrides()
    file = os.environ.get("ROWTIDE_MODELS")
    return read_overrides(Path(file)) if file else NOTHING


# Where, and in which flow run, there was no such block, and when that was seen.
_absent: dict[tuple[str, str | None], float] = {}


async def _stored() -> dict[str, Any] | None:
    url = get_current_settings().api.url
    if not url:
        return None
    here = (url, flow_run.id)
    if time.monotonic() - _absent.get(here, float("-inf")) < LOOK_AGAIN_SECONDS:
        return None
    _absent.clear()
    try:
        async with get_client() as client:
            document = await client.read_block_document_by_name(NAME, SLUG)
    except ObjectNotFound:
        _absent[here] = time.monotonic()
        return None
    except httpx.HTTPError as error:
        raise WorldError(f"Prefect did not say whether there is a ladder: {type(error).__name__}: {error}") from error
    return dict(document.data)

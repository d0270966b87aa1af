"""The block of models, prices and ladders, changed without a deploy."""

from typing import Any

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, model_validator

from blocks.block_documents import NAME
from rowtide.tiers.catalogue import Overrides, load_catalogue, parse_overrides

SLUG = "rowtide-ladder"


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
        """Return the overrides for the catalogue. Raises UserMistake."""
        return parse_overrides({"models": self.models, "tiers": self.tiers}, f"block {SLUG}/{NAME}")

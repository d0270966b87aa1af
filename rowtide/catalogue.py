"""The model catalogue: ids, limits and prices, read from `models.yaml` and from nowhere else."""

from datetime import date
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from rowtide.errors import UserMistake, nearest


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(Entry):
    """US dollars per million tokens, live, for prompts above so many tokens."""

    above_prompt_tokens: int = 0
    input: Decimal
    output: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal


class Model(Entry):
    alias: str
    id: str
    context_tokens: int
    max_output_tokens: int
    cache_minimum_tokens: int
    prices: list[Price]
    priced_on: date
    source: str
    batch_share: Decimal

    def price_at(self, prompt_tokens: int) -> Price:
        """The price of a request whose whole prompt is so long."""
        steps = [price for price in self.prices if price.above_prompt_tokens < max(prompt_tokens, 1)]
        return max(steps, key=lambda price: price.above_prompt_tokens)


class Catalogue(Entry):
    models: dict[str, Model]

    def tier(self, alias: str) -> Model:
        """The model called `alias`. Raises UserMistake with the nearest name."""
        if alias not in self.models:
            meant = nearest(alias, self.models)
            raise UserMistake(f"{alias!r} is not a tier; tiers: {', '.join(self.models)}", key="tiers", meant=meant)
        return self.models[alias]


@cache
def load_catalogue(file: Path | None = None) -> Catalogue:
    """Read the catalogue: the packaged one, unless another is named."""
    text = (file or files("rowtide") / "models.yaml").read_text(encoding="utf-8")
    raw = yaml.safe_load(text)
    try:
        shared = {"batch_share": raw["batch_share"]}
        models = {alias: Model(alias=alias, **shared, **entry) for alias, entry in raw["models"].items()}
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserMistake(first["msg"], file=file or "models.yaml", key=key) from None
    return Catalogue(models=models)

"""The emulated models, and which requests each refuses, read from models.yaml."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import yaml

from emulator.prices import Price, price_of


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    tier: Literal["haiku", "sonnet", "opus"]
    released: date
    name: str
    context: int
    max_output: int
    long_output: bool
    thinking: Literal["optional", "between_tools", "always", "manual"]
    forced_tool: Literal["yes", "without_thinking", "no"]
    prefill: bool
    budget: bool
    price: Price
    price_above_100k: Price | None = None
    alias: str | None = None
    binds_prefix: bool = False
    reads: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The class of models whose rates it shares: `haiku`."""
        return self.id.split("-")[1]

    def thinks(self, thinking: object) -> bool:
        """Whether a reply opens with a thinking block, given the request's `thinking`."""
        asked = thinking.get("type") if isinstance(thinking, dict) else None
        if self.thinking == "manual":
            return asked in ("enabled", "adaptive")
        return asked != "disabled"


def _read_models() -> dict[str, Model]:
    rows = yaml.safe_load(Path(__file__).with_name("models.yaml").read_text())
    return {
        model_id: Model(id=model_id, **row | _prices(row) | {"reads": tuple(row.get("reads", ()))})
        for model_id, row in rows.items()
    }


def _prices(row: dict[str, Any]) -> dict[str, Price]:
    return {name: price_of(row[name]) for name in ("price", "price_above_100k") if name in row}


MODELS = _read_models()
BY_NAME = MODELS | {model.alias: model for model in MODELS.values() if model.alias}

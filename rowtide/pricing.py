"""What a reply cost, in integer micro-dollars: exact until the last step, rounded half up once a reply."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from rowtide.catalogue import Model, Price

MICRO = 1_000_000  # micro-dollars in a dollar


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, as the API bills them."""

    input_tokens: int
    output_tokens: int
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt, cached or not."""
        return self.input_tokens + self.cache_write_5m + self.cache_write_1h + self.cache_read


def usage_from(usage: Mapping[str, Any]) -> Usage:
    """Read a reply's `usage`. Cache writes without a split count as the dearer kind."""
    written = usage.get("cache_creation_input_tokens") or 0
    split = usage.get("cache_creation") or {}
    short = split.get("ephemeral_5m_input_tokens") or 0
    return Usage(
        input_tokens=usage.get("input_tokens") or 0,
        output_tokens=usage.get("output_tokens") or 0,
        cache_write_5m=short,
        cache_write_1h=max(written - short, split.get("ephemeral_1h_input_tokens") or 0),
        cache_read=usage.get("cache_read_input_tokens") or 0,
    )


def cost_micro(model: Model, usage: Usage, *, lane: str) -> int:
    """What a reply cost, in micro-dollars. A price per million tokens is a price in micro-dollars per token."""
    price = model.price_at(usage.prompt_tokens)
    live = (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_write_5m * price.cache_write_5m
        + usage.cache_write_1h * price.cache_write_1h
        + usage.cache_read * price.cache_read
    )
    return _rounded(live * _share(model, lane))


def worst_case_micro(model: Model, prompt_tokens: int, max_tokens: int, *, lane: str) -> int:
    """The most a request can cost: its whole prompt written to the 1-hour cache, its reply as long as allowed."""
    price = model.price_at(prompt_tokens)
    return _rounded((prompt_tokens * _dearest_read(price) + max_tokens * price.output) * _share(model, lane))


def _dearest_read(price: Price) -> Decimal:
    return max(price.input, price.cache_write_5m, price.cache_write_1h, price.cache_read)


def _share(model: Model, lane: str) -> Decimal:
    return model.batch_share if lane == "batch" else Decimal(1)


def _rounded(micro: Decimal) -> int:
    return int(micro.to_integral_value(ROUND_HALF_UP))

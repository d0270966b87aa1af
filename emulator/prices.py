"""The price of a reply in whole micro-dollars, from the prices in models.yaml.

Worked out in integers: a dollar per million tokens is a thousand nano-dollars per token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

# Above so many tokens of prompt, cached or not, a model with a second price charges it for the whole request.
STEP_TOKENS = 100_000


@dataclass(frozen=True, slots=True)
class Price:
    """In nano-dollars per token."""

    input: int
    output: int
    write_5m: int
    write_1h: int
    read: int


def price_of(dollars: Mapping[str, float]) -> Price:
    return Price(**{kind: _nano(amount) for kind, amount in dollars.items()})


def cost_micro(price: Price, price_above_100k: Price | None, usage: Mapping[str, Any]) -> int:
    """Return what this usage costs in micro-dollars, rounded half up. A batch pays half of everything."""
    prompt = usage["input_tokens"] + usage["cache_creation_input_tokens"] + usage["cache_read_input_tokens"]
    if price_above_100k and prompt > STEP_TOKENS:
        price = price_above_100k
    nano = (
        usage["input_tokens"] * price.input
        + usage["output_tokens"] * price.output
        + usage["cache_creation"]["ephemeral_5m_input_tokens"] * price.write_5m
        + usage["cache_creation"]["ephemeral_1h_input_tokens"] * price.write_1h
        + usage["cache_read_input_tokens"] * price.read
    )
    nanos_per_micro = 2_000 if usage["service_tier"] == "batch" else 1_000
    return (2 * nano + nanos_per_micro) // (2 * nanos_per_micro)


def _nano(dollars: float) -> int:
    nano = Decimal(str(dollars)) * 1000
    assert nano == int(nano), f"{dollars!r} dollars per million tokens is no whole number of nano-dollars"
    return int(nano)

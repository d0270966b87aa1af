"""Computes what a reply costs, in integer micro-dollars: exact, and rounded half up once per reply."""

from operator import mul
from typing import Any, NamedTuple

from rowtide.lanes.lane_table import Lane
from rowtide.tiers.catalogue import Model

MICRO = 1_000_000  # micro-dollars in a dollar
MOST_TOKENS = 100_000_000  # of one kind in one reply: no model reads or writes more


class Usage(NamedTuple):
    """Tokens of one reply as the API bills them, in the order of a `Price`."""

    input_tokens: int
    output_tokens: int
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0

    @property
    def prompt_tokens(self) -> int:
        """The whole prompt, cached or not."""
        return self.input_tokens + self.cache_write_5m + self.cache_write_1h + self.cache_read


def parse_usage(usage: object) -> Usage | None:
    """Parse a reply's `usage`; None if it is not plausible. Cache writes without a split count as the more expensive
    kind.
    """
    if not isinstance(usage, dict):
        return None
    fields: dict[str, Any] = usage
    split: Any = fields.get("cache_creation") or {}
    try:
        written, read = fields.get("cache_creation_input_tokens") or 0, fields.get("cache_read_input_tokens") or 0
        short, long = split.get("ephemeral_5m_input_tokens") or 0, split.get("ephemeral_1h_input_tokens") or 0
        found = Usage(fields["input_tokens"], fields["output_tokens"], short, max(written - short, long), read)
    except (KeyError, TypeError, AttributeError):
        return None
    is_whole = set(map(type, found)) == {int}
    return found if is_whole and min(found) >= 0 and max(found) <= MOST_TOKENS else None


def cost_micro(model: Model, usage: Usage, *, lane: Lane) -> int:
    """Return what a reply cost, in micro-dollars. A price per million tokens is a price in micro-dollars per token."""
    *prices, per = model.price_at(usage.prompt_tokens).parts
    return _rounded(sum(map(mul, usage, prices)), per, model, lane)


def worst_case_micro(model: Model, prompt_tokens: int, max_tokens: int, *, lane: Lane) -> int:
    """Return the most that a request can cost: its whole prompt written to the 1-hour cache, its reply as long as
    allowed.
    """
    read, output, *cached, per = model.price_at(prompt_tokens).parts
    return _rounded(prompt_tokens * max(read, *cached) + max_tokens * output, per, model, lane)


def _rounded(parts: int, per: int, model: Model, lane: Lane) -> int:
    """Return parts of a micro-dollar as whole micro-dollars, rounded half up, with the lane's discount."""
    share, of = lane.price_share(model.batch_share).as_integer_ratio()
    return (2 * parts * share + per * of) // (2 * per * of)

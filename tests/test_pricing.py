"""Money is exact: worked examples by hand from the published prices, and what must hold for any usage.

The prices are those of the platform's pricing page as read on 2026-11-21, in dollars per million tokens, so in
micro-dollars per token. A price that changes changes models.yaml and its line here, and no other test.
"""

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowtide.lanes.lane_table import BATCH, LANES, LIVE
from rowtide.tiers.catalogue import Price, load_catalogue
from rowtide.tiers.pricing import Usage, cost_micro, parse_usage, worst_case_micro

CATALOGUE = load_catalogue()

# (tier, lane, usage, the arithmetic)
EXAMPLES = {
    "plain tokens": ("haiku", "live", Usage(10_000, 1_000), 10_000 * 0.10 + 1_000 * 0.50),
    "a batch takes half": ("haiku", "batch", Usage(10_000, 1_000), (1_000 + 500) / 2),
    "every model its own price": ("sonnet", "live", Usage(10_000, 1_000), 10_000 * 2 + 1_000 * 10),
    "the dearest of the ladder": ("opus", "batch", Usage(10_000, 1_000), (10_000 * 4 + 1_000 * 20) / 2),
    "above the ladder": ("fable", "batch", Usage(10_000, 1_000), (10_000 * 8 + 1_000 * 40) / 2),
    "a write for five minutes": ("opus", "live", Usage(0, 0, cache_write_5m=1_000), 1_000 * 5),
    "a write for an hour": ("opus", "live", Usage(0, 0, cache_write_1h=1_000), 1_000 * 8),
    "a read": ("opus", "live", Usage(0, 0, cache_read=40_000), 40_000 * 0.20),
    "all at once": ("opus", "live", Usage(100, 7, 1_000, 2_000, 40_000), 400 + 140 + 5_000 + 16_000 + 8_000),
    "all at once, in a batch": ("opus", "batch", Usage(100, 7, 1_000, 2_000, 40_000), 29_540 / 2),
    "sonnet from the cache": ("sonnet", "batch", Usage(10, 10, 0, 600, 600), (20 + 100 + 600 * 4 + 600 * 0.10) / 2),
    "a prompt of exactly 100,000": ("haiku", "live", Usage(50_000, 100, cache_read=50_000), 5_000 + 50 + 500),
    "one token more: all of it is dearer": (
        "haiku",
        "live",
        Usage(50_000, 100, cache_read=50_001),
        50_000 * 0.50 + 100 * 2.50 + 50_001 * 0.05 - 0.05,  # 27,750.05, rounded
    ),
    "writes count to the length as well": (
        "haiku",
        "batch",
        Usage(1, 100, cache_write_5m=40_000, cache_write_1h=60_000),
        (0.50 + 250 + 40_000 * 0.625 + 60_000 * 1.00) / 2 - 0.25,  # 42,625.25, rounded
    ),
    "what is said does not count to the length": ("haiku", "live", Usage(100_000, 90_000), 10_000 + 45_000),
    "half a micro-dollar is rounded up": ("haiku", "batch", Usage(10, 0), 1),  # 0.5
    "less than half is nothing": ("haiku", "batch", Usage(9, 0), 0),  # 0.45
    "a reply is rounded once, not each of its parts": ("haiku", "batch", Usage(5, 1, 0, 0, 10), 1),  # .25 + .25 + .05
}


@pytest.mark.parametrize(("tier", "lane", "usage", "micro"), EXAMPLES.values(), ids=EXAMPLES)
def test_a_worked_example(tier: str, lane: str, usage: Usage, micro: float) -> None:
    assert cost_micro(CATALOGUE.tier(tier), usage, lane=LANES[lane]) == pytest.approx(micro, abs=1e-6)


def test_usage_is_read_as_the_api_writes_it_and_a_write_without_a_split_is_the_dearer_kind() -> None:
    split = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    written = {"cache_creation_input_tokens": 7, "cache_creation": split, "cache_read_input_tokens": None}
    found = parse_usage({"input_tokens": 1, "output_tokens": 2, **written})
    assert found == Usage(1, 2, 3, 4, 0)
    assert parse_usage({"input_tokens": 0, "output_tokens": 0, "cache_creation_input_tokens": 7}) == Usage(
        0, 0, 0, 7, 0
    )


@pytest.mark.parametrize("wrong", [-1, 10**18, "7", None, 1.5, float("nan"), [], True])
def test_usage_that_cannot_be_true_is_no_usage(wrong: object) -> None:
    assert parse_usage({"input_tokens": wrong, "output_tokens": 2}) is None
    assert parse_usage(wrong) is None


tokens = st.integers(0, 900_000)


@given(tokens, tokens, tokens, tokens, tokens)
def test_no_reply_costs_more_than_its_worst_case(one: int, out: int, short: int, long: int, read: int) -> None:
    usage = Usage(one, out, short, long, read)
    for model in CATALOGUE.models.values():
        for lane in LANES.values():
            assert (
                0 <= cost_micro(model, usage, lane=lane) <= worst_case_micro(model, usage.prompt_tokens, out, lane=lane)
            )


five_prices = st.lists(st.decimals(min_value=0, max_value=99, places=5), min_size=5, max_size=5)


@given(five_prices, st.decimals("0.01", 1, places=3), st.lists(tokens, min_size=5, max_size=5))
def test_whole_numbers_say_to_the_micro_dollar_what_decimals_say(
    at: list[Decimal], share: Decimal, used: list[int]
) -> None:
    price = Price(input=at[0], output=at[1], cache_write_5m=at[2], cache_write_1h=at[3], cache_read=at[4])
    model = CATALOGUE.tier("haiku").model_copy(update={"prices": {0: price}, "batch_share": share})
    exact = sum(each * count for each, count in zip(at, used, strict=True))
    dearest = max(at[:1] + at[2:]) * used[0] + at[1] * used[1]
    for lane, part in ((LIVE, Decimal(1)), (BATCH, share)):
        assert cost_micro(model, Usage(*used), lane=lane) == rounded(exact * part)
        assert worst_case_micro(model, used[0], used[1], lane=lane) == rounded(dearest * part)


def rounded(micro: Decimal) -> int:
    return int(micro.to_integral_value(ROUND_HALF_UP))

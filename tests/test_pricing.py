"""Money is exact: worked examples by hand, and what must hold for any usage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowtide.catalogue import load_catalogue
from rowtide.errors import UserMistake
from rowtide.pricing import Usage, cost_micro, usage_from, worst_case_micro

CATALOGUE = load_catalogue()
HAIKU, OPUS = CATALOGUE.tier("haiku"), CATALOGUE.tier("opus")


def test_plain_tokens_live_and_in_a_batch() -> None:
    usage = Usage(input_tokens=10_000, output_tokens=1_000)
    assert cost_micro(HAIKU, usage, lane="live") == 10_000 * 0.10 + 1_000 * 0.50  # 1,500 micro-dollars
    assert cost_micro(HAIKU, usage, lane="batch") == 750
    assert cost_micro(OPUS, usage, lane="batch") == (10_000 * 4 + 1_000 * 20) / 2


def test_cache_writes_and_reads_have_their_own_price_and_share_the_batch_discount() -> None:
    usage = Usage(input_tokens=100, output_tokens=0, cache_write_5m=1_000, cache_write_1h=2_000, cache_read=40_000)
    live = 100 * 4 + 1_000 * 5 + 2_000 * 8 + 40_000 * 0.20
    assert cost_micro(OPUS, usage, lane="live") == live == 29_400
    assert cost_micro(OPUS, usage, lane="batch") == 14_700


def test_a_long_prompt_is_dearer_as_a_whole_and_cached_tokens_count_to_its_length() -> None:
    short = Usage(input_tokens=50_000, output_tokens=100, cache_read=50_000)
    long = Usage(input_tokens=50_000, output_tokens=100, cache_read=50_001)
    assert cost_micro(HAIKU, short, lane="live") == 50_000 * 0.10 + 50 + 500
    assert cost_micro(HAIKU, long, lane="live") == 50_000 * 0.50 + 250 + 2_500


def test_half_a_micro_dollar_is_rounded_up_once_a_reply() -> None:
    assert cost_micro(HAIKU, Usage(input_tokens=10, output_tokens=0), lane="batch") == 1  # 0.5


def test_usage_is_read_as_the_api_writes_it() -> None:
    split = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    written = {"cache_creation_input_tokens": 7, "cache_creation": split, "cache_read_input_tokens": None}
    found = usage_from({"input_tokens": 1, "output_tokens": 2, **written})
    assert found == Usage(1, 2, 3, 4, 0)
    assert usage_from({"cache_creation_input_tokens": 7}) == Usage(0, 0, 0, 7, 0)


tokens = st.integers(0, 900_000)


@given(tokens, tokens, tokens, tokens, tokens)
def test_no_reply_costs_more_than_its_worst_case(one: int, out: int, short: int, long: int, read: int) -> None:
    usage = Usage(one, out, short, long, read)
    for model in CATALOGUE.models.values():
        for lane in ("batch", "live"):
            assert (
                0 <= cost_micro(model, usage, lane=lane) <= worst_case_micro(model, usage.prompt_tokens, out, lane=lane)
            )


def test_an_unknown_tier_is_named_with_the_nearest() -> None:
    with pytest.raises(UserMistake, match="'haikoo' is not a tier.*did you mean 'haiku'"):
        CATALOGUE.tier("haikoo")

"""Which lane rows go by, and what a deadline does to it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from rowtide.lanes.lane_table import LANES, AskedLane
from rowtide.lanes.lanes import (
    LaneHistory,
    WorkToDo,
    choose_lane,
    is_tail_of_run,
    latest_live_start,
    would_batch_be_late,
)
from rowtide.lanes.rate_limiter import RateLimit, RateLimiter, limits_from_headers

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def work(rows: int, **values: object) -> WorkToDo:
    return WorkToDo(**{"rows": rows, "has_after": False, "asked": "auto", "concurrency": 16, **values})  # pyright: ignore[reportArgumentType] # made up by name


@pytest.mark.parametrize(
    ("rows", "lane", "words"),
    [(3, "live", "one at a time"), (15, "live", "all at once"), (60, "stream", "16 at once"), (500, "batch", "half")],
)
def test_the_number_of_rows_decides_and_the_reason_is_said(rows: int, lane: str, words: str) -> None:
    choice = choose_lane(work(rows), LaneHistory(), NOW)
    assert choice.lane.name == lane
    assert words in choice.why


def test_rows_that_come_after_others_go_in_sequence_whatever_their_number() -> None:
    assert choose_lane(work(10_000, has_after=True), LaneHistory(), NOW).lane.name == "sequential"


def test_what_was_asked_for_is_done() -> None:
    assert choose_lane(work(3, asked="batch"), LaneHistory(), NOW).lane.name == "batch"


def test_a_deadline_that_batches_have_missed_before_sends_rows_live() -> None:
    soon = NOW + timedelta(hours=1)
    slow, quick = LaneHistory(timedelta(hours=2), 12), LaneHistory(timedelta(minutes=20), 12)
    hurried = choose_lane(work(500, finish_by=soon), slow, NOW)
    assert hurried.lane.name == "live"
    assert "nine of ten of the last 12 batches took up to 2 h, and the deadline is in 1 h" in hurried.why
    assert choose_lane(work(500, finish_by=soon), quick, NOW).lane.name == "batch"


def test_a_budget_that_bears_batches_only_keeps_few_rows_in_a_batch() -> None:
    tight = choose_lane(work(15, left_usd=0.01, batch_share=0.5), LaneHistory(row_usd=0.0005), NOW)
    assert tight.lane.name == "batch"
    assert "live would cost about $0.0150, and $0.0100 is left" in tight.why
    assert choose_lane(work(15, left_usd=0.02, batch_share=0.5), LaneHistory(row_usd=0.0005), NOW).lane.name == "live"


def test_the_last_moment_leaves_time_for_the_live_calls_and_half_as_much_again() -> None:
    pasts = LaneHistory(call_seconds=6, turns=2)
    quick = replace(pasts, batch_p90=timedelta(seconds=1))
    soon = NOW + timedelta(hours=1)
    assert would_batch_be_late(100, 10, quick, soon - timedelta(minutes=2), soon)
    assert not would_batch_be_late(100, 10, quick, soon - timedelta(minutes=4), soon)
    assert latest_live_start(100, 10, pasts, soon) == soon - timedelta(seconds=100 * 2 * 6 / 10 * 1.5)


def test_only_the_last_few_rows_of_a_large_run_are_a_tail() -> None:
    assert is_tail_of_run(ready=10, in_flight=0, rows=1000, tail_rows=20)
    assert not is_tail_of_run(ready=10, in_flight=1, rows=1000, tail_rows=20)
    assert not is_tail_of_run(ready=10, in_flight=0, rows=100, tail_rows=20)
    assert not is_tail_of_run(ready=0, in_flight=0, rows=1000, tail_rows=20)


def test_the_swarm_shrinks_when_it_is_turned_away_and_grows_again() -> None:
    pace = RateLimiter(16)
    assert pace.room(0, NOW) == 16
    pace.turned_away(None, NOW)
    assert pace.pause_seconds(NOW) == 1
    assert pace.room(0, NOW) == 0
    later = NOW + timedelta(seconds=1)
    assert pace.room(0, later) == 8
    for _ in range(9):
        pace.record_reply({}, {}, later)
    assert pace.room(0, later) == 9
    pace.turned_away(30, later)
    assert pace.pause_seconds(later) == 30


def test_a_bucket_that_is_nearly_empty_is_let_fill() -> None:
    """1,000 tokens of 10,000 are kept for others; a call uses 500; 6,000 a minute flow in."""
    full_at = NOW + timedelta(seconds=90)  # 9,000 are missing
    pace = RateLimiter(16)
    pace.record_reply({"input-tokens": RateLimit(10_000, 1_000, full_at)}, {"input-tokens": 500}, NOW)
    assert pace.pause_seconds(NOW) == pytest.approx(5)
    pace.record_reply({"input-tokens": RateLimit(10_000, 1_500, full_at)}, {"input-tokens": 500}, NOW)
    assert pace.pause_seconds(NOW) == 0


def test_headers_say_what_is_left_and_nonsense_in_them_is_ignored() -> None:
    reset = "2026-11-21T12:01:00Z"
    said = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": reset,
        "anthropic-ratelimit-input-tokens-limit": "many",
        "anthropic-ratelimit-input-tokens-remaining": "1",
        "anthropic-ratelimit-input-tokens-reset": reset,
    }
    assert limits_from_headers(said) == {"requests": RateLimit(50, 49, datetime(2026, 11, 21, 12, 1, tzinfo=UTC))}


def test_every_lane_can_be_asked_for_by_its_name_and_by_no_other() -> None:
    assert get_args(AskedLane) == ("auto", *LANES)
    assert all(name == lane.name for name, lane in LANES.items())

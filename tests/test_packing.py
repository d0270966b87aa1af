"""Packing never exceeds a limit, never loses a request, never cuts too early."""

from hypothesis import given
from hypothesis import strategies as st

from rowtide.api.batch_packing import (
    BatchLoad,
    BatchRoom,
    count_requests_that_fit,
    distinguishable_batch_size,
    is_batch_worth_packing,
)


@given(
    sizes=st.lists(st.integers(1, 400), max_size=60),
    max_rows=st.integers(1, 20),
    max_bytes=st.integers(450, 2000),
    page=st.integers(1, 7),
)
def test_batches_packed_page_by_page_hold_every_request_once_within_both_limits(
    sizes: list[int], max_rows: int, max_bytes: int, page: int
) -> None:
    left, packed = list(sizes), []
    while left:
        held, body = BatchLoad(), b'{"requests":['
        while left:
            taken = left[:page]
            fits = count_requests_that_fit(taken, [1] * len(taken), held, BatchRoom(max_rows, max_bytes))
            body += (b"," if held.rows and fits else b"") + b",".join(b"x" * each for each in taken[:fits])
            packed += taken[:fits]
            held, left = BatchLoad(held.rows + fits, len(body) + 2), left[fits:]
            if fits < len(taken):
                break
        assert 0 < held.rows <= max_rows
        assert len(body + b"]}") <= max_bytes
    assert packed == sizes


@given(costs=st.lists(st.integers(0, 50), max_size=40), left=st.integers(0, 500))
def test_what_is_packed_never_costs_more_than_is_left_and_stops_for_nothing_else(costs: list[int], left: int) -> None:
    fits = count_requests_that_fit([10] * len(costs), costs, BatchLoad(), BatchRoom(1000, 1_000_000, left))
    assert sum(costs[:fits]) <= left
    assert fits == len(costs) or sum(costs[: fits + 1]) > left


@given(rows=st.integers(1, 50), taken=st.sets(st.integers(1, 50)))
def test_a_batch_in_doubt_is_told_apart_by_its_count_wherever_that_can_be(rows: int, taken: set[int]) -> None:
    count = distinguishable_batch_size(rows, taken)
    assert 0 < count <= rows
    assert count not in taken or set(range(1, rows + 1)) <= taken


def test_a_small_batch_is_cut_only_when_nothing_else_can_become_ready() -> None:
    assert not is_batch_worth_packing(ready=10, in_flight=1, enough_rows=100)
    assert is_batch_worth_packing(ready=10, in_flight=0, enough_rows=100)
    assert is_batch_worth_packing(ready=100, in_flight=1, enough_rows=100)
    assert not is_batch_worth_packing(ready=0, in_flight=0, enough_rows=100)

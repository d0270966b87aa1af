"""Packing never exceeds a limit, never loses a request, never cuts too early."""

from hypothesis import given
from hypothesis import strategies as st

from rowtide.packing import how_many_fit, is_time_to_cut


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
        rows, size, body = 0, 0, b'{"requests":['
        while left:
            taken = left[:page]
            fits = how_many_fit(taken, rows=rows, size=size, max_rows=max_rows, max_bytes=max_bytes)
            body += (b"," if rows and fits else b"") + b",".join(b"x" * each for each in taken[:fits])
            packed += taken[:fits]
            rows, size, left = rows + fits, len(body) + 2, left[fits:]
            if fits < len(taken):
                break
        assert 0 < rows <= max_rows
        assert len(body + b"]}") <= max_bytes
    assert packed == sizes


def test_a_small_batch_is_cut_only_when_nothing_else_can_become_ready() -> None:
    assert not is_time_to_cut(ready=10, in_flight=1, enough_rows=100)
    assert is_time_to_cut(ready=10, in_flight=0, enough_rows=100)
    assert is_time_to_cut(ready=100, in_flight=1, enough_rows=100)
    assert not is_time_to_cut(ready=0, in_flight=0, enough_rows=100)

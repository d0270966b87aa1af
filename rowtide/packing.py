"""When to cut a batch, and how many requests go into it.

A batch is never cut on a timer: the ledger knows what is outstanding, so a small batch is cut only when nothing
else can become ready.
"""

from collections.abc import Sequence

ENVELOPE_BYTES = len(b'{"requests":[]}')
COMMA_BYTES = 1


def is_time_to_cut(*, ready: int, in_flight: int, enough_rows: int) -> bool:
    """Whether the ready rows are worth a batch now. `in_flight` rows may yet become ready."""
    return ready > 0 and (ready >= enough_rows or in_flight == 0)


def how_many_fit(sizes: Sequence[int], *, rows: int, size: int, max_rows: int, max_bytes: int) -> int:
    """How many of the next requests fit a body that already holds `rows` requests in `size` bytes.

    `sizes` are the requests' bytes, in order; the body's envelope and commas are counted here.
    """
    used = size or ENVELOPE_BYTES
    for taken, each in enumerate(sizes):
        used += each + (COMMA_BYTES if rows + taken else 0)
        if rows + taken + 1 > max_rows or used > max_bytes:
            return taken
    return len(sizes)

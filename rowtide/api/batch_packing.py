"""Decides when to cut a batch, and how many requests go into it.

A batch is never cut on a timer: the ledger knows what is outstanding, so a small batch is cut only when nothing else
can become ready.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

ENVELOPE_BYTES = len(b'{"requests":[]}')
COMMA_BYTES = 1


@dataclass(frozen=True, slots=True)
class BatchRoom:
    """What one body may hold. `micro` is the budget left, in micro-dollars; None without a limit."""

    rows: int
    bytes: int
    micro: int | None = None


@dataclass(frozen=True, slots=True)
class BatchLoad:
    """What a body holds so far; `bytes` include the envelope."""

    rows: int = 0
    bytes: int = ENVELOPE_BYTES
    micro: int = 0


def is_batch_worth_packing(*, ready: int, in_flight: int, enough_rows: int) -> bool:
    """Return whether the ready rows are worth a batch now. `in_flight` rows may yet become ready."""
    return ready > 0 and (ready >= enough_rows or in_flight == 0)


def count_requests_that_fit(sizes: Sequence[int], costs: Sequence[int], held: BatchLoad, room: BatchRoom) -> int:
    """Return how many of the next requests fit a body that holds `held`. `sizes` are bytes, `costs` worst cases."""
    used, reserved = held.bytes, held.micro
    for taken, (size, cost) in enumerate(zip(sizes, costs, strict=True)):
        used += size + (COMMA_BYTES if held.rows + taken else 0)
        reserved += cost
        too_dear = room.micro is not None and reserved > room.micro
        if held.rows + taken + 1 > room.rows or used > room.bytes or too_dear:
            return taken
    return len(sizes)


def distinguishable_batch_size(rows: int, taken: Collection[int]) -> int:
    """Return the largest count up to `rows` that no unconfirmed batch has: the list shows only a batch's count."""
    return next((count for count in range(rows, 0, -1) if count not in taken), rows)

"""Judges what became of a batch whose POST was never answered.

The API may have it. The list shows each batch's number of requests and nothing else of use; only results carry the tag.
So a batch of the same count is a candidate until its results prove it ours or not.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Found:
    """Its results carry our tag."""

    api_id: str


@dataclass(frozen=True, slots=True)
class NeverTaken:
    """The API has had time to list it, and does not."""


@dataclass(frozen=True, slots=True)
class Unprovable:
    """A candidate vanished before its results could be read. A person must decide."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Too early to say. `is_seen`: a candidate is being watched."""

    is_seen: bool


Verdict = Found | NeverTaken | Unprovable | Wait


def judge_unconfirmed_batch(
    *,
    proven: str | None,
    candidates: Collection[str],
    vanished: Collection[str],
    unconfirmed_for: timedelta,
    confirm_within: timedelta,
) -> Verdict:
    """Return Found, NeverTaken, Unprovable or Wait for one unconfirmed batch. `proven` is the candidate whose results
    carry our tag; `candidates` are batches at the API that may be ours, `vanished` those the API no longer knows."""
    if proven is not None:
        return Found(proven)
    if candidates:
        return Wait(is_seen=True)
    if unconfirmed_for <= confirm_within:
        return Wait(is_seen=False)
    return Unprovable() if vanished else NeverTaken()

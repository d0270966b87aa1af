"""An emulated batch and how it ages: its state follows from a few stored facts and the time.

Rows finish one after another in `order`, evenly over the batch's latency; that order is also the order of its results.
So no state is stored for a row: what a cancel or the 24 h limit leaves unfinished can be counted from the clock.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson

from emulator.clock import rfc3339, rfc3339_or_null
from emulator.habits import Temper
from emulator.known_answers import KnownAnswers

EXPIRES_AFTER = timedelta(hours=24)
ARCHIVED_AFTER = timedelta(days=29)
# A cancel takes this share of the batch's latency to come into force.
CANCEL_SHARE = 0.2

Ending = Literal["done", "canceled", "expired"]


@dataclass(frozen=True)
class Batch:
    """The facts of a batch that are stored when it is accepted, cancelled or deleted."""

    id: str
    workspace: str
    created_at: datetime
    row_count: int
    latency_seconds: float
    seed: int
    version: str
    ordinal: int = 0
    """Which of its emulator's batches this is: tells apart those of one instant."""
    betas: tuple[str, ...] = ()
    errored: Sequence[int] = ()
    """Rows that fail validation; found at acceptance, told only at the end."""
    spoilt: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Results that were decided by fault injection, by row. `missing` is a row without a line."""
    hardness: str = "text"
    """What makes its rows hard: the account's setting when it was accepted."""
    habits: str = "[]"
    """Habits of the minds that answer them, besides the demo's, as JSON: the same (habits.py)."""
    twists: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What fault injection does to rows that are answered all the same (twists.py)."""
    cache_creators: Mapping[str, int] = field(default_factory=dict)
    """Prompt prefixes that were not cached yet, and the first row that holds each: it pays, the others read."""
    connected: Sequence[int] = ()
    """Rows that are answered with the help of MCP servers: worked out once, and kept."""
    is_settled: bool = False
    """Those rows have been worked out; the ones whose servers could not be reached stand in `errored` now."""
    cancel_initiated_at: datetime | None = None
    deleted_at: datetime | None = None
    bill: Mapping[str, Any] | None = None
    """What was billed; kept when the requests are deleted, computed from them until then."""
    finished_share: float | None = None
    """By fault injection: so many rows finish, whatever the clock says, before it is cancelled or expires."""
    is_deleted_at_end: bool = False
    is_archived_at_end: bool = False
    invisible_seconds: float = 0.0
    has_partial_counts: bool = False
    """Its counts move while it is in progress, as the API was once seen to do."""

    def temper(self, known: KnownAnswers) -> Temper:
        return Temper(self.hardness, self.habits, self.created_at, known)

    @property
    def expires_at(self) -> datetime:
        return self.created_at + EXPIRES_AFTER

    def ends_at(self) -> datetime:
        """When the batch ends, unless somebody cancels it."""
        ends = min(self.created_at + timedelta(seconds=self.latency_seconds), self.expires_at)
        if self.cancel_initiated_at:
            pause = timedelta(seconds=self.latency_seconds * CANCEL_SHARE)
            ends = min(ends, self.cancel_initiated_at + pause)
        return ends

    def has_ended(self, now: datetime) -> bool:
        return now >= self.ends_at()

    def archived_at(self) -> datetime:
        return self.ends_at() if self.is_archived_at_end else self.created_at + ARCHIVED_AFTER

    def is_archived(self, now: datetime) -> bool:
        return now >= self.archived_at()

    def is_deleted(self, now: datetime) -> bool:
        return self.deleted_at is not None or (self.is_deleted_at_end and self.has_ended(now))

    def is_invisible(self, now: datetime) -> bool:
        return now < self.created_at + timedelta(seconds=self.invisible_seconds)

    def canceled_at(self, now: datetime) -> datetime | None:
        """When somebody cancelled the batch, if they have by now: fault injection knows the moment beforehand."""
        at = self.cancel_initiated_at
        return at if at and at <= now else None

    def status(self, now: datetime) -> str:
        if self.has_ended(now):
            return "ended"
        return "canceling" if self.canceled_at(now) else "in_progress"

    def order(self) -> list[int]:
        """The rows in the order in which they finish, and in which results list them."""
        rows = list(range(self.row_count))
        random.Random(self.seed).shuffle(rows)
        return rows

    def finished_rows(self) -> tuple[int, Ending]:
        """How many rows of `order` finished before the batch ended, and what became of the rest."""
        if self.finished_share is not None:
            return int(self.row_count * self.finished_share), "canceled" if self.cancel_initiated_at else "expired"
        stopped_at = min(self.expires_at, self.cancel_initiated_at or self.expires_at)
        lived_seconds = (stopped_at - self.created_at).total_seconds()
        if lived_seconds >= self.latency_seconds:
            return self.row_count, "done"
        finished = int(self.row_count * lived_seconds / self.latency_seconds)
        return finished, "canceled" if self.cancel_initiated_at else "expired"

    def counts(self, now: datetime) -> dict[str, int]:
        """`request_counts`: as a rule, everything is processing until the batch has ended."""
        counts: dict[str, int] = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        finished, rest = self._progress(now)
        errored = set(self.errored)
        # The order matters only if something cut it short; drawing it is dear for a large batch.
        done = range(self.row_count) if finished == self.row_count else self.order()[:finished]
        for row in done if errored or self.spoilt else ():
            kind = self.spoilt[str(row)]["type"] if str(row) in self.spoilt else "errored" if row in errored else None
            if kind:
                counts["errored" if kind == "missing" else kind] += 1
        counts["succeeded"] = finished - sum(counts.values())
        if finished < self.row_count:
            counts[rest] += self.row_count - finished
        return counts

    def _progress(self, now: datetime) -> tuple[int, str]:
        """How many rows the counts show as finished, and what they call the others."""
        finished, ending = self.finished_rows()
        if self.has_ended(now):
            return finished, ending
        if not self.has_partial_counts:
            return 0, "processing"
        lived_seconds = (now - self.created_at).total_seconds()
        return min(finished, int(self.row_count * lived_seconds / self.latency_seconds)), "processing"

    def view(self, now: datetime, address: str) -> dict[str, Any]:
        """The `message_batch` object; `address` is where this emulator is reached."""
        ended = self.has_ended(now)
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.status(now),
            "request_counts": self.counts(now),
            "ended_at": rfc3339(self.ends_at()) if ended else None,
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "archived_at": rfc3339(self.archived_at()) if self.is_archived(now) else None,
            "cancel_initiated_at": rfc3339_or_null(self.canceled_at(now)),
            "results_url": f"{address}/v1/messages/batches/{self.id}/results" if ended else None,
        }

    def view_at_birth(self, address: str) -> dict[str, Any]:
        """The object as its creator first sees it: in progress, even if it takes no time at all."""
        return replace(self, latency_seconds=1.0, cancel_initiated_at=None).view(self.created_at, address)


def to_bytes(batch: Batch) -> bytes:
    return orjson.dumps(vars(batch))


def from_bytes(data: bytes) -> Batch:
    batch = Batch(**orjson.loads(data))
    moments = {
        name: datetime.fromisoformat(moment)
        for name in ("created_at", "cancel_initiated_at", "deleted_at")
        if (moment := getattr(batch, name))
    }
    return replace(batch, betas=tuple(batch.betas), **moments)

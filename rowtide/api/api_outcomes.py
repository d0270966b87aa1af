"""What a call to the API came to: it did, it certainly did not, or nobody can say."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rowtide.lanes.pace import Allowance

NOT_SENT = 0  # in place of a status code: no connection, so nothing went out


@dataclass(frozen=True, slots=True)
class BatchStatus:
    api_id: str
    status: str
    total: int
    created_at: datetime
    ended_at: datetime | None
    is_archived: bool

    @property
    def has_ended(self) -> bool:
        return self.status == "ended"

    @property
    def took_seconds(self) -> float | None:
        """How long it took by the API's own clock, once it has ended."""
        return (self.ended_at - self.created_at).total_seconds() if self.ended_at else None


@dataclass(frozen=True, slots=True)
class Created:
    status: BatchStatus


@dataclass(frozen=True, slots=True)
class Refused:
    """The API certainly did not take the batch."""

    status_code: int
    message: str
    retry_after_seconds: float | None = None

    @property
    def is_too_large(self) -> bool:
        return self.status_code == 413

    @property
    def is_for_good(self) -> bool:
        return self.status_code not in (NOT_SENT, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer, or one that says nothing: the API may have the batch."""

    detail: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A live reply: the message, and what the rate limits still allow."""

    message: dict[str, Any]
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The API certainly did not reply, and bills nothing."""

    status_code: int
    kind: str
    message: str
    retry_after_seconds: float | None = None

"""Outcomes of API calls: it happened, it certainly did not, or nobody can say."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rowtide.agent.account_refusals import account_refusal_of
from rowtide.agent.reply_parsing import Outcome
from rowtide.lanes.rate_limiter import Allowance

NOT_SENT = 0  # status code for no connection: nothing was sent


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
        """Return how long the batch took by the API's clock, in seconds; None until it has ended."""
        return (self.ended_at - self.created_at).total_seconds() if self.ended_at else None


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer of the API, unread."""

    status_code: int
    content: bytes


@dataclass(frozen=True, slots=True)
class BatchCreated:
    status: BatchStatus


@dataclass(frozen=True, slots=True)
class BatchRefused:
    """The API certainly did not take the batch."""

    status_code: int
    message: str
    retry_after_seconds: float | None = None

    @property
    def is_everyones(self) -> bool:
        """Whether the API's words say that it would refuse any other batch of the account too."""
        return self.status_code == 402 or account_refusal_of(self.message) is not None

    @property
    def is_too_large(self) -> bool:
        return self.status_code == 413

    @property
    def is_for_good(self) -> bool:
        return self.status_code not in (NOT_SENT, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """No answer, or a meaningless one: the API may have the batch."""

    detail: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LiveReply:
    """A call answered with 200: its outcome, and what the rate limits still allow."""

    outcome: Outcome
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class LiveRejection:
    """The API certainly gave no reply, and bills nothing."""

    status_code: int
    kind: str
    message: str
    retry_after_seconds: float | None = None


def refusal_text(status_code: int, message: str) -> str:
    """Return the message for a person whose requests the API refuses."""
    refusal = account_refusal_of(message)
    return f"{status_code}: {message}" + (f" ({refusal.means}: {refusal.do})" if refusal else "")


def parse_batch_status(found: dict[str, Any]) -> BatchStatus:
    """Parse a batch from the API. Raises KeyError, TypeError, ValueError or AttributeError for anything else."""
    return BatchStatus(
        api_id=str(found["id"]),
        status=found["processing_status"],
        total=sum(found["request_counts"].values()),
        created_at=_moment(found["created_at"]),
        ended_at=_moment(found["ended_at"]) if found.get("ended_at") else None,
        is_archived=bool(found.get("archived_at")),
    )


def parse_batch_list(page: dict[str, Any]) -> tuple[list[BatchStatus], bool]:
    """Parse a page of the API's batch list. Returns its batches, and whether there are more."""
    return [parse_batch_status(each) for each in page["data"]], bool(page.get("has_more"))


def _moment(stamp: str) -> datetime:
    moment = datetime.fromisoformat(stamp)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

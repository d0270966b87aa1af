"""The emulator's clock, which a test can freeze or move.

Everything that ages (a batch's end, 24 h expiry, 29 d archiving, a cache's TTL) asks this object and no other clock,
so a test can let a month pass in a line.
"""

from datetime import UTC, datetime, timedelta


class Clock:
    """The machine's clock plus what was added to it; or, when frozen, only what was added to it."""

    def __init__(self, frozen_at: datetime | None = None) -> None:
        self._frozen_at = frozen_at
        self._added = timedelta()

    def now(self) -> datetime:
        return (self._frozen_at or datetime.now(UTC)) + self._added

    def advance(self, seconds: float) -> datetime:
        self._added += timedelta(seconds=seconds)
        return self.now()


def rfc3339(moment: datetime) -> str:
    """As the API writes times: UTC, microseconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339_or_null(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None

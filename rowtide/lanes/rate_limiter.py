"""Limits the live calls in flight: to the job's limit, or fewer by the API's rate limits.

Every reply says what its limits still allow (`anthropic-ratelimit-*`, token buckets that fill continuously). The limit
grows by one with each round of replies and halves when a call is rejected. Source: platform.claude.com, rate limits,
read 2026-11.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

METERS = ("requests", "input-tokens", "output-tokens")
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_FILLING_SECONDS = 600.0  # a bucket is full again in a minute, whatever a header says
KEPT = 0.1  # share of a bucket that is left to others on the same account
NUMBER = re.compile(r"[0-9]{1,15}")
GETS_USED_TO = 0.2  # weight of the newest call in the average use of a call


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One token bucket: its size, what is left, when it is full again."""

    limit: int
    remaining: int
    full_at: datetime


Allowance = Mapping[str, RateLimit]


def limits_from_headers(headers: Mapping[str, str]) -> Allowance:
    """Return the rate limits in a reply's headers, by meter; meters that are missing or unreadable are left out."""
    found: dict[str, RateLimit] = {}
    for name in METERS:
        limit, left, full_at = (
            headers.get(f"anthropic-ratelimit-{name}-{part}") for part in ("limit", "remaining", "reset")
        )
        moment = _moment(full_at)
        if limit and left and moment and NUMBER.fullmatch(limit) and NUMBER.fullmatch(left):
            found[name] = RateLimit(int(limit), int(left), moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return found


def _moment(stamp: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(stamp) if stamp else None
    except ValueError:
        return None


class RateLimiter:
    """Decides how many live calls may start, from replies and rejections."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ceiling = float(most)
        self._backoff = FIRST_BACKOFF_SECONDS
        self._uses: dict[str, float] = {"requests": 1.0}
        self._not_before: datetime | None = None

    def room(self, in_flight: int, now: datetime) -> int:
        """Return how many more calls may start now."""
        if self._not_before and now < self._not_before:
            return 0
        return max(0, min(int(self._ceiling), self._most) - in_flight)

    def record_reply(self, allowance: Allowance, used: Mapping[str, int], now: datetime) -> None:
        """Record a reply: the amounts it used, and the limits in its headers."""
        self._backoff = FIRST_BACKOFF_SECONDS
        self._ceiling = min(self._most, self._ceiling + 1 / max(self._ceiling, 1))
        for name, amount in used.items():
            self._uses[name] = self._uses.get(name, amount) * (1 - GETS_USED_TO) + amount * GETS_USED_TO
        self._not_before = max(
            (_until(each, self._uses.get(name, 0), now) for name, each in allowance.items()), default=None
        )

    def pause_seconds(self, now: datetime) -> float:
        """Return the seconds until a call may start, as far as time decides."""
        return max(0.0, (self._not_before - now).total_seconds()) if self._not_before else 0.0

    def turned_away(self, retry_after_seconds: float | None, now: datetime) -> None:
        """Record a rejection for lack of capacity (429, 529) or an error of the API: halve the limit and back off."""
        wait = retry_after_seconds or self._backoff
        self._backoff = min(self._backoff * 2, LONGEST_BACKOFF_SECONDS)
        self._ceiling = max(1.0, self._ceiling / 2)
        self._not_before = now + timedelta(seconds=wait)


def _until(meter: RateLimit, use: float, now: datetime) -> datetime:
    """Return when the bucket will hold what the next call uses plus what is left to others."""
    wanted = use + KEPT * meter.limit
    if meter.remaining >= wanted:
        return now
    missing = max(1, meter.limit - meter.remaining)
    filling = min(max((meter.full_at - now).total_seconds(), 0.0), LONGEST_FILLING_SECONDS)
    return now + timedelta(seconds=min((wanted - meter.remaining) / missing, 1.0) * filling)

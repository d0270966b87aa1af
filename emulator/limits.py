"""Rate limits: a token bucket for each account, class of models and kind of limit.

A bucket holds a minute's worth. Requests and input are known beforehand and must be there; output is taken when it has
been said, so a bucket of output may be overdrawn, and then nothing is let in until it holds something again.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from threading import Lock
from typing import Any

from emulator.clock import Clock, rfc3339
from emulator.models import Model
from emulator.problems import Problem
from emulator.settings import SettingsBook

MINUTE = 60
# What a refusal calls them.
CALLED = {
    "requests": "requests",
    "count_tokens": "requests",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
}
MESSAGES = ("requests", "input_tokens", "output_tokens")


@dataclass
class Bucket:
    """`level` is how much it held at `at`."""

    limit: int
    level: float
    at: datetime

    def refill(self, now: datetime) -> None:
        seconds = max(0.0, (now - self.at).total_seconds())
        self.level, self.at = min(float(self.limit), self.level + seconds * self.limit / MINUTE), now

    def seconds_until(self, level: float) -> float:
        return max(0.0, (min(level, self.limit) - self.level) * MINUTE / self.limit)

    @property
    def remaining(self) -> int:
        # A hair below a whole number is that number: levels are sums of fractions.
        return max(0, int(self.level + 1e-6))


class RateLimits:
    def __init__(self, clock: Clock, settings: SettingsBook) -> None:
        self._clock, self._settings = clock, settings
        self._buckets: dict[tuple[str, str, str], Bucket] = {}
        self._refused: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def admit(self, workspace: str, model: Model, **needed: int) -> None:
        """Take what a call needs from its buckets; or, if one has too little, from none, and refuse the call."""
        with self._lock:
            buckets = {kind: self._bucket(workspace, model, kind) for kind in needed}
            short = [kind for kind, bucket in buckets.items() if bucket.level + 1e-6 < max(1, needed[kind])]
            if not short:
                for kind, bucket in buckets.items():
                    bucket.level -= needed[kind]
                return
            self._refused[workspace, short[0]] += 1
            wait_seconds = max(buckets[kind].seconds_until(max(1, needed[kind])) for kind in short)
        headers = {"retry-after": str(max(1, ceil(wait_seconds))), **self.headers(workspace, model, tuple(needed))}
        raise Problem(429, _refusal(buckets[short[0]].limit, CALLED[short[0]], workspace, model), headers=headers)

    def spend(self, workspace: str, model: Model, **used: int) -> None:
        """Take what was used beyond what was known when the call was let in."""
        with self._lock:
            for kind, amount in used.items():
                self._bucket(workspace, model, kind).level -= amount

    def headers(self, workspace: str, model: Model, kinds: tuple[str, ...] = MESSAGES) -> dict[str, str]:
        """The limits, what remains of them, and when they will be full again."""
        with self._lock:
            buckets = {kind: self._bucket(workspace, model, kind) for kind in kinds}
            told = {
                "requests" if kind == "count_tokens" else kind.replace("_", "-"): _told([bucket])
                for kind, bucket in buckets.items()
            }
            if tokens := [bucket for kind, bucket in buckets.items() if kind.endswith("put_tokens")]:
                told["tokens"] = _told(tokens)
        return {
            f"anthropic-ratelimit-{kind}-{what}": each for kind, says in told.items() for what, each in says.items()
        }

    def view(self, workspace: str) -> dict[str, Any]:
        """What remains in an account's buckets, and how many calls each kind has refused."""
        with self._lock:
            for bucket in self._buckets.values():
                bucket.refill(self._clock.now())
            remaining: dict[str, dict[str, int]] = {}
            for (owner, family, kind), bucket in self._buckets.items():
                if owner == workspace:
                    remaining.setdefault(family, {})[kind] = bucket.remaining
            refused = {kind: count for (owner, kind), count in self._refused.items() if owner == workspace}
        return {"remaining": remaining, "refused": refused}

    def _bucket(self, workspace: str, model: Model, kind: str) -> Bucket:
        now, limit = self._clock.now(), getattr(self._settings.of(workspace).limits, kind)
        bucket = self._buckets.get((workspace, model.family, kind))
        if bucket is None or bucket.limit != limit:
            bucket = self._buckets[workspace, model.family, kind] = Bucket(limit, float(limit), now)
        bucket.refill(now)
        return bucket


def _told(buckets: list[Bucket]) -> dict[str, str]:
    full_at = max(bucket.at + timedelta(seconds=bucket.seconds_until(bucket.limit)) for bucket in buckets)
    return {
        "limit": str(sum(bucket.limit for bucket in buckets)),
        "remaining": str(sum(bucket.remaining for bucket in buckets)),
        "reset": rfc3339(full_at),
    }


def _refusal(limit: int, kind: str, workspace: str, model: Model) -> str:
    return (
        f"This request would exceed your organization's rate limit of {limit:,} {kind} per minute (org: {workspace}, "
        f"model: {model.id}). For details, refer to: https://docs.claude.com/en/api/rate-limits. You can see the "
        "response headers for current usage. Please reduce the prompt length or the maximum tokens requested, or try "
        "again later."
    )

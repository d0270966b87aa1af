"""The rate limit of a sender: a token bucket that fills at a steady rate."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """Allows `per_second` messages, and `at_once` in a burst. The caller brings the clock."""

    per_second: float
    at_once: float
    left: float
    at_seconds: float

    def take(self, now_seconds: float) -> float:
        """Take a token. Returns 0, or the seconds until there is one."""
        grown = (now_seconds - self.at_seconds) * self.per_second
        self.left, self.at_seconds = min(self.at_once, self.left + grown), now_seconds
        if self.left < 1:
            return (1 - self.left) / self.per_second
        self.left -= 1
        return 0.0

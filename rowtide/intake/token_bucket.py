"""How many messages a sender may bring: a bucket of tokens that fills at a steady rate."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """So many a second, and so many at once. Its clock is the caller's."""

    per_second: float
    at_once: float
    left: float
    at_seconds: float

    def take(self, now_seconds: float) -> float:
        """Take one. Returns 0, or after how many seconds there will be one."""
        grown = (now_seconds - self.at_seconds) * self.per_second
        self.left, self.at_seconds = min(self.at_once, self.left + grown), now_seconds
        if self.left < 1:
            return (1 - self.left) / self.per_second
        self.left -= 1
        return 0.0

"""The receiver's health and readiness, answered at once from what was last observed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger.inbox import WaitingRows
from rowtide.ledger.ledger import Ledger
from rowtide.observing.bounded_threads import BoundedThreads
from rowtide.observing.supervision import Background

LOOK_EVERY_SECONDS = 1.0
LOOK_SECONDS = 5.0  # a ledger that has not answered in this time is away


@dataclass
class Lookout:
    """Checks once a second whether the ledger can be written, and what waits in it."""

    ledger: Ledger
    background: Background = field(
        default_factory=lambda: Background("the look at the ledger", "it is not known what waits in it")
    )
    waiting: Sequence[WaitingRows] | None = None
    """As it was when the ledger answered last; None before it ever did."""
    seen_at: datetime | None = None
    _threads: BoundedThreads = field(default_factory=lambda: BoundedThreads(1))

    async def work(self) -> None:
        """Check until cancelled."""
        while True:
            self.waiting = await self._threads.call(LOOK_SECONDS, _look, self.ledger)
            self.seen_at = datetime.now(UTC)
            self.background.succeeded()
            await asyncio.sleep(LOOK_EVERY_SECONDS)


def _look(ledger: Ledger) -> list[WaitingRows]:
    ledger_inbox.check_writable(ledger)
    with ledger.view() as tx:
        return ledger_inbox.waiting_rows(tx)


def receiver_health(lookout: Lookout, backgrounds: Sequence[Background], now: datetime) -> dict[str, object]:
    """Return the receiver's health, for anybody who asks: figures and kinds of errors, never an error's message."""
    oldest = min((each.oldest_at for each in lookout.waiting or ()), default=None)
    return {
        "status": "degraded" if failing_parts(lookout, backgrounds, is_open=True) else "ok",
        "rows_waiting": None if lookout.waiting is None else sum(each.rows for each in lookout.waiting),
        "oldest_seconds": round((now - oldest).total_seconds(), 1) if oldest else None,
        "seen_seconds_ago": round((now - lookout.seen_at).total_seconds(), 1) if lookout.seen_at else None,
        "background": [
            {
                "name": each.name,
                "failing": each.is_failing,
                "restarts": each.restarts,
                "last_error": kind_of_error(each),
            }
            for each in backgrounds
        ],
    }


def failing_parts(lookout: Lookout, backgrounds: Sequence[Background], *, is_open: bool) -> list[dict[str, str | None]]:
    """Return the parts that keep the receiver from taking and keeping a message; empty where it can."""
    found = [{"name": each.name, "error": kind_of_error(each)} for each in backgrounds if each.is_failing]
    if lookout.waiting is None and not found:
        return [{"name": lookout.background.name, "error": "the ledger has not answered yet"}]
    if not is_open and not found:
        return [{"name": "the inbox", "error": "it is not open"}]
    return found


def kind_of_error(background: Background) -> str | None:
    """Return the type of the last error, such as `OperationalError`. Its message may name hosts and users, and is in
    the log only.
    """
    return background.last_error.partition(":")[0] if background.last_error else None

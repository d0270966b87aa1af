"""Announce to Prefect that messages came, that rows are due to be flushed, and that a run is requested.

A lost event loses no row: what is due is said again until it has been flushed, from what the ledger says.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings

from rowtide.intake.messages import MessageRefused
from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger.inbox import WaitingRows
from rowtide.ledger.ledger import Ledger
from rowtide.observing.bounded_threads import BoundedThreads
from rowtide.observing.supervision import Background

LOOK_EVERY_SECONDS = 1.0
ANNOUNCE_AGAIN_SECONDS = 30.0  # that rows are due; an automation needs some seconds to have them flushed
MOST_IDS = 100  # of messages, in one event
MOST_MESSAGES = 10_000  # told of in one transaction
ANNOUNCE_SECONDS = 60.0  # after that it is failing; a SQLite ledger may be locked for so long

DEPLOYMENT = "run_job/manual"
ACCEPTED, DUE = "rowtide.message.accepted", "rowtide.inbox.due"


def has_prefect() -> bool:
    """Return whether a Prefect server is configured."""
    return bool(get_current_settings().api.url)


@dataclass
class Announcer:
    """Tells Prefect once a second which messages came; of several receivers on one ledger, one tells. What is to be
    told is taken out of the ledger in one transaction and told after it: at most once. Killed between the two, it is
    not told.
    """

    ledger: Ledger
    flush_rows: int
    flush_seconds: int
    emit: Callable[..., object] = emit_event
    background: Background = field(
        default_factory=lambda: Background("the announcer", "rows are kept, but Prefect is not told of them")
    )
    _threads: BoundedThreads = field(default_factory=lambda: BoundedThreads(1))

    async def work(self) -> None:
        """Announce until cancelled."""
        while True:
            is_all = await self._threads.call(ANNOUNCE_SECONDS, self._announce, datetime.now(UTC))
            self.background.succeeded()
            await asyncio.sleep(LOOK_EVERY_SECONDS if is_all else 0)

    def _announce(self, now: datetime) -> bool:
        """Announce what is new. Returns whether that was all."""
        last = now - timedelta(seconds=ANNOUNCE_AGAIN_SECONDS)
        with self.ledger.page() as tx:
            messages = ledger_inbox.take_unannounced(tx, limit=MOST_MESSAGES)
            waiting = [(each, why) for each in ledger_inbox.waiting_rows(tx) if (why := self._why(each, now))]
            due = [
                (each, why)
                for each, why in waiting
                if ledger_inbox.claim_due_announcement(tx, each.job, why, last_before=last, now=now)
            ]
        for job in sorted({job for job, _, _ in messages}):
            its_own = [(message_id, rows) for its_job, message_id, rows in messages if its_job == job]
            ids = [message_id for message_id, _ in its_own[:MOST_IDS]]
            payload = {"messages": len(its_own), "rows": sum(rows for _, rows in its_own), "message_ids": ids}
            self.emit(ACCEPTED, _resource(job), payload=payload)
        for each, why in due:
            self.emit(DUE, {**_resource(each.job), "rowtide.why": why}, payload=_figures(each, now))
        return len(messages) < MOST_MESSAGES

    def _why(self, waiting: WaitingRows, now: datetime) -> str | None:
        """Why rows are due to be flushed: `size` or `age`; None when they are not."""
        if waiting.is_due(self.flush_rows, None, now):
            return "size"
        return "age" if waiting.is_due(1, self.flush_seconds, now) else None


async def request_run(parameters: dict[str, Any], message_id: str) -> dict[str, str]:
    """Ask Prefect to run a job, once for each job and message id. Raises MessageRefused."""
    if not has_prefect():
        raise MessageRefused("unavailable", "PREFECT_API_URL is not set, so there is nobody to ask for a run")
    try:
        async with get_client() as client:
            found = await client.read_deployment_by_name(DEPLOYMENT)
            job = parameters["job"]
            made = await client.create_flow_run_from_deployment(
                found.id,
                name=f"{job}: asked for over HTTP",
                parameters=parameters,
                idempotency_key=f"rowtide {message_id} {job}",
            )
    except ObjectNotFound:
        raise MessageRefused("unavailable", f"Prefect has no deployment {DEPLOYMENT!r}: prefect deploy --all") from None
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise MessageRefused("unavailable", f"Prefect: {type(error).__name__}", retry_after_seconds=10) from None
    return {"flow_run_id": str(made.id), "flow_run": made.name}


def _resource(job: str) -> dict[str, str]:
    return {"prefect.resource.id": f"rowtide.inbox.{job}", "prefect.resource.name": job, "job": job}


def _figures(waiting: WaitingRows, now: datetime) -> dict[str, float]:
    return {"rows": waiting.rows, "oldest_seconds": round((now - waiting.oldest_at).total_seconds(), 1)}

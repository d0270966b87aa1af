"""What the receiver tells Prefect: that messages came, that rows are due to be flushed, that a run is wanted.

A lost event loses no row: what is due is said again until it has been flushed, from what the ledger says.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings

from rowtide.intake.messages import Refused
from rowtide.ledger import ledger_inbox
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.ledger_inbox import Waiting
from rowtide.observing.supervision import Background

LOOK_EVERY_SECONDS = 1.0
SAY_AGAIN_SECONDS = 30.0  # that rows are due; an automation needs some seconds to have them flushed
MOST_IDS = 100  # of messages, in one event

DEPLOYMENT = "run_job/manual"
ACCEPTED, DUE = "rowtide.message.accepted", "rowtide.inbox.due"


def has_prefect() -> bool:
    """Whether there is a Prefect server to tell."""
    return bool(get_current_settings().api.url)


@dataclass
class Announcer:
    """Tells Prefect once a second what has come, however much that was."""

    ledger: Ledger
    flush_rows: int
    flush_seconds: int
    _ids: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    _rows: Counter[str] = field(default_factory=Counter[str])
    _said: dict[str, datetime] = field(default_factory=dict[str, datetime])
    background: Background = field(
        default_factory=lambda: Background("the announcer", "rows are kept, but Prefect is not told of them")
    )

    def accepted(self, job: str, message_id: str, rows: int) -> None:
        """Note a message, for the next event."""
        self._ids.setdefault(job, []).append(message_id)
        self._rows[job] += rows

    async def work(self) -> None:
        """Say what is to be said, until cancelled."""
        while True:
            # Taken here and not in the thread: messages come in meanwhile.
            ids, self._ids = self._ids, {}
            rows, self._rows = self._rows, Counter[str]()
            await asyncio.to_thread(self._announce, ids, rows, datetime.now(UTC))
            self.background.succeeded()
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _announce(self, ids: Mapping[str, list[str]], rows: Mapping[str, int], now: datetime) -> None:
        for job, message_ids in ids.items():
            payload = {"messages": len(message_ids), "rows": rows[job], "message_ids": message_ids[:MOST_IDS]}
            emit_event(ACCEPTED, _resource(job), payload=payload)
        with self.ledger.view() as tx:
            waiting = ledger_inbox.waiting(tx)
        self._said = {job: at for job, at in self._said.items() if (now - at).total_seconds() < SAY_AGAIN_SECONDS}
        for each in waiting:
            why = self._why(each, now)
            if why and f"{each.job} {why}" not in self._said:
                self._said[f"{each.job} {why}"] = now
                emit_event(DUE, {**_resource(each.job), "rowtide.why": why}, payload=_figures(each, now))

    def _why(self, waiting: Waiting, now: datetime) -> str | None:
        """Why rows are due to be flushed, if they are."""
        if waiting.is_due(self.flush_rows, None, now):
            return "size"
        return "age" if waiting.is_due(1, self.flush_seconds, now) else None


async def ask_for_run(parameters: dict[str, Any], message_id: str) -> dict[str, str]:
    """Have Prefect run a job; once, however often it is asked with this job and message id. Raises Refused."""
    if not has_prefect():
        raise Refused("unavailable", "PREFECT_API_URL is not set, so there is nobody to ask for a run")
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
        raise Refused("unavailable", f"Prefect has no deployment {DEPLOYMENT!r}: prefect deploy --all") from None
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise Refused("unavailable", f"Prefect: {type(error).__name__}", retry_after_seconds=10) from None
    return {"flow_run_id": str(made.id), "flow_run": made.name}


def _resource(job: str) -> dict[str, str]:
    return {"prefect.resource.id": f"rowtide.inbox.{job}", "prefect.resource.name": job, "job": job}


def _figures(waiting: Waiting, now: datetime) -> dict[str, float]:
    return {"rows": waiting.rows, "oldest_seconds": round((now - waiting.oldest_at).total_seconds(), 1)}

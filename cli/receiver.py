"""The receiver's HTTP: what it can be asked and how it answers. The only module that imports Starlette.

What is refused is answered with a problem (RFC 9457) that says why, and 202 is said only of what is on disk.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from cli.announcing import Announcer, ask_for_run
from cli.measuring import CONTENT_TYPE, Meters
from cli.say import complain
from rowtide.errors import UserMistake
from rowtide.intake.allowance import Allowance
from rowtide.intake.inbox import Inbox, find_door
from rowtide.intake.messages import Door, Refused, cloud_event_id, message_of, parsed
from rowtide.intake.rows import canonical, row_id
from rowtide.intake.signatures import Secrets, check_id, check_signature
from rowtide.intake.wanted import parameters_of
from rowtide.ledger import ledger_inbox
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.ledger_inbox import Receipt, Whereabouts
from rowtide.observing.supervision import Background, supervise

BODY_SECONDS = 30.0
STATUS = {Receipt.ACCEPTED: HTTPStatus.ACCEPTED, Receipt.REPEATED: HTTPStatus.OK}
WINDOW = timedelta(minutes=5)  # as Standard Webhooks advises: a message's time may be so far from ours


@dataclass(frozen=True, slots=True)
class Limits:
    """What the receiver takes."""

    body_bytes: int
    per_second: int
    """Messages of one job."""


@dataclass
class Receiver:
    """What the receiver works with."""

    ledger: Ledger
    inbox: Inbox
    jobs: Path
    secrets: Secrets | None
    """None: messages need no signature."""
    limits: Limits
    announcer: Announcer | None
    meters: Meters
    doors: dict[str, Door] = field(default_factory=dict[str, Door])
    allowances: dict[str, Allowance] = field(default_factory=dict[str, Allowance])

    @property
    def backgrounds(self) -> list[Background]:
        """What works behind the requests."""
        return [self.inbox.background, *([self.announcer.background] if self.announcer else [])]


def application(receiver: Receiver) -> Starlette:
    """The receiver, to be served."""

    @asynccontextmanager
    async def working(_: Starlette) -> AsyncGenerator[None]:
        works = [(receiver.inbox.background, receiver.inbox.work)]
        works += [(each.background, each.work) for each in [receiver.announcer] if each]
        tasks = [asyncio.create_task(supervise(background, work)) for background, work in works]
        yield
        for task in tasks:
            task.cancel()

    app = Starlette(
        lifespan=working,
        routes=[
            Route("/v1/inbox/{job}", _take, methods=["POST"]),
            Route("/v1/inbox/{job}/{message_id:path}", _tell, methods=["GET"]),
            Route("/v1/runs/{job}", _run, methods=["POST"]),
            Route("/health", _health, methods=["GET"]),
            Route("/metrics", _metrics, methods=["GET"]),
        ],
        exception_handlers={Refused: _refused, UserMistake: _broken, HTTPException: _no_route, ClientDisconnect: _gone},
    )
    app.state.receiver = receiver
    return app


async def _take(request: Request) -> Response:
    receiver, door = await _door(request)
    body = await _body(request, receiver.limits.body_bytes)
    message_id = _authenticated(receiver, door, request, body)
    _allow(receiver, door)
    value = parsed(body)
    message = message_of(door, message_id or check_id(cloud_event_id(value) or ""), value)
    receipt = await receiver.inbox.receive(message)
    _check_same(receipt, door, message.message_id)
    receiver.meters.count(door.job, receipt.value)
    if receipt is Receipt.ACCEPTED and receiver.announcer:
        receiver.announcer.accepted(door.job, message.message_id, len(message.rows))
    said = {"message_id": message.message_id, "job": door.job, "rows": len(message.rows), "receipt": receipt.value}
    return _json(said, STATUS[receipt])


async def _tell(request: Request) -> Response:
    receiver, door = await _door(request)
    message_id = request.path_params["message_id"]
    if _authenticated(receiver, door, request, b"") not in (None, message_id):
        raise Refused("bad_signature", "webhook-id is not the message that is asked for")
    found = await asyncio.to_thread(_whereabouts, receiver.ledger, door.job, message_id)
    if found is None:
        raise Refused("unknown_message", f"job {door.job!r} has received no message {message_id!r}")
    waits = sum(each.run_id is None for each in found)
    state = "waiting" if waits == len(found) else "in_run" if not waits else "partly_waiting"
    return _json({"message_id": message_id, "job": door.job, "state": state, "rows": [_row(each) for each in found]})


async def _run(request: Request) -> Response:
    receiver, door = await _door(request)
    body = await _body(request, receiver.limits.body_bytes)
    message_id = _authenticated(receiver, door, request, body) or check_id(request.headers.get("webhook-id", ""))
    _allow(receiver, door)
    parameters = parameters_of(parsed(body), job=door.job)
    receipt = await asyncio.to_thread(_request_run, receiver.ledger, door.job, message_id, parameters)
    _check_same(receipt, door, message_id)
    said = await ask_for_run(parameters, message_id)
    return _json({**said, "receipt": receipt.value}, STATUS[receipt])


async def _health(request: Request) -> Response:
    receiver: Receiver = request.app.state.receiver
    waiting = await asyncio.to_thread(_waiting, receiver.ledger)
    oldest = min((each.oldest_at for each in waiting), default=None)
    said: dict[str, object] = {
        "status": _status(receiver),
        "rows_waiting": sum(each.rows for each in waiting),
        "oldest_seconds": round((datetime.now(UTC) - oldest).total_seconds(), 1) if oldest else None,
        "background": [
            {"name": each.name, "failing": each.is_failing, "restarts": each.restarts, "last_error": each.last_error}
            for each in receiver.backgrounds
        ],
    }
    return _json(said, HTTPStatus.OK if receiver.inbox.is_open else HTTPStatus.SERVICE_UNAVAILABLE)


def _status(receiver: Receiver) -> str:
    if not receiver.inbox.is_open:
        return "closed"
    return "degraded" if any(each.is_failing for each in receiver.backgrounds) else "ok"


async def _metrics(request: Request) -> Response:
    receiver: Receiver = request.app.state.receiver
    return Response(await asyncio.to_thread(receiver.meters.text, receiver.backgrounds), media_type=CONTENT_TYPE)


async def _door(request: Request) -> tuple[Receiver, Door]:
    """What the job asks of its rows; looked up once."""
    receiver: Receiver = request.app.state.receiver
    job: str = request.path_params["job"]
    if job not in receiver.doors:
        receiver.doors[job] = await asyncio.to_thread(find_door, job, receiver.jobs, os.environ)
    return receiver, receiver.doors[job]


async def _body(request: Request, most: int) -> bytes:
    """The body, no further than it may be long."""
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise Refused("too_large", f"over {most:,} bytes")
                parts.append(part)
    except TimeoutError:
        raise Refused("too_slow", f"over {BODY_SECONDS:g} s") from None
    return b"".join(parts)


def _authenticated(receiver: Receiver, door: Door, request: Request, body: bytes) -> str | None:
    """The message's id: what was signed; where nothing need be, what it calls itself, if it does. Raises Refused."""
    if receiver.secrets is not None:
        secrets = receiver.secrets.of(door.job)
        return check_signature(secrets, request.headers, body, now=datetime.now(UTC), window=WINDOW)
    said = request.headers.get("webhook-id")
    return check_id(said) if said else None


def _allow(receiver: Receiver, door: Door) -> None:
    """Count a message that is from whom it says: nobody else can use up the job's rate. Raises Refused."""
    now, rate = time.monotonic(), receiver.limits.per_second
    allowance = receiver.allowances.setdefault(door.job, Allowance(rate, rate, rate, now))
    if seconds := allowance.take(now):
        raise Refused("too_many", f"over {rate:g} a second for job {door.job!r}", retry_after_seconds=seconds)


def _check_same(receipt: Receipt, door: Door, message_id: str) -> None:
    """Refuse another message under an id that this job has had. Raises Refused."""
    if receipt is Receipt.DIFFERENT:
        raise Refused("message_differs", f"message {message_id!r} of job {door.job!r} had another body")


def _request_run(ledger: Ledger, job: str, message_id: str, parameters: dict[str, Any]) -> Receipt:
    body_hash = row_id(canonical(parameters))
    with ledger.page() as tx:
        return ledger_inbox.request_run(tx, job, message_id, body_hash, now=datetime.now(UTC))


def _whereabouts(ledger: Ledger, job: str, message_id: str) -> list[Whereabouts] | None:
    with ledger.view() as tx:
        return ledger_inbox.whereabouts(tx, job, message_id)


def _waiting(ledger: Ledger) -> list[ledger_inbox.Waiting]:
    with ledger.view() as tx:
        return ledger_inbox.waiting(tx)


def _row(row: Whereabouts) -> dict[str, object]:
    state = row.state or ("waiting" if row.run_id is None else "superseded" if row.superseded_by else "taken")
    return {"row_key": row.row_key, "state": state, "run_id": row.run_id, "reason": row.reason}


def _json(value: object, status: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _problem(status: int, kind: str, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    said = {"type": f"urn:rowtide:{kind}", "title": title, "status": status, "detail": detail}
    return Response(orjson.dumps(said), status, headers, media_type="application/problem+json")


async def _refused(request: Request, why: Exception) -> Response:
    assert isinstance(why, Refused)
    receiver: Receiver = request.app.state.receiver
    job = request.path_params.get("job", "")
    if request.method == "POST":
        receiver.meters.count(job if job in receiver.doors else "", why.kind)
    after = {} if why.retry_after_seconds is None else {"retry-after": f"{max(1, round(why.retry_after_seconds))}"}
    return _problem(why.status, why.kind, why.title, why.detail, after)


async def _broken(_: Request, mistake: Exception) -> Response:
    """The job itself is wrong: its operator's business, so a sender hears no paths."""
    complain(str(mistake))
    return _problem(503, "unavailable", "This cannot be done now", "the job is not fit to run; its operator was told")


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = HTTPStatus(error.status_code).phrase
    return _problem(error.status_code, words.lower().replace(" ", "_"), words, error.detail)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody hears it

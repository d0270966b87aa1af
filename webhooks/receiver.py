"""The receiver's HTTP endpoints. The only module that imports Starlette.

What is refused is answered with a problem (RFC 9457) that says why, and 202 is said only of what is on disk.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from rowtide.errors import UserMistake
from rowtide.intake.messages import MessageRefused, build_message, cloud_event_id, parse_body
from rowtide.intake.request_headers import check_body_headers, check_message_id, check_sender
from rowtide.intake.run_requests import run_parameters
from rowtide.intake.signatures import WebhookSecretSet, check_signature
from rowtide.intake.source_rows import canonical_json, row_id
from rowtide.intake.token_bucket import TokenBucket
from rowtide.intake.webhook_row_rules import RowRulesOfJobs
from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger.inbox import MessageRowTrace, Receipt
from rowtide.ledger.ledger import Ledger
from rowtide.observing.bounded_threads import BoundedThreads
from rowtide.observing.supervision import Background, supervise
from rowtide.stages.extract.inbox import Inbox
from webhooks.prefect_notifier import Announcer, request_run
from webhooks.prometheus import CONTENT_TYPE, ReceiverMetrics
from webhooks.readiness import Lookout, failing_parts, receiver_health

BODY_SECONDS = 30.0
LOOK_SECONDS = 5.0  # for what is asked of the ledger
STATUS = {Receipt.ACCEPTED: HTTPStatus.ACCEPTED, Receipt.REPEATED: HTTPStatus.OK}
WINDOW = timedelta(minutes=5)  # as Standard Webhooks advises: a message's time may be so far from ours

log = logging.getLogger("rowtide")


@dataclass(frozen=True, slots=True)
class ReceiverLimits:
    """The limits on what the receiver accepts."""

    body_bytes: int
    per_second: int
    """Messages of one job."""


@dataclass
class Receiver:
    """The parts that the receiver works with."""

    ledger: Ledger
    inbox: Inbox
    row_rules: RowRulesOfJobs
    secrets: WebhookSecretSet | None
    """None: messages need no signature."""
    limits: ReceiverLimits
    announcer: Announcer | None
    meters: ReceiverMetrics
    lookout: Lookout
    allowances: dict[str, TokenBucket] = field(default_factory=dict[str, TokenBucket])
    looks: BoundedThreads = field(default_factory=lambda: BoundedThreads(8))
    """For questions to the ledger."""
    figures: BoundedThreads = field(default_factory=lambda: BoundedThreads(2))
    is_closing: bool = False

    @property
    def backgrounds(self) -> list[Background]:
        """The background work behind the requests."""
        workers = [self.inbox, self.lookout, *([self.announcer] if self.announcer else [])]
        return [each.background for each in workers]


def build_application(receiver: Receiver) -> Starlette:
    """Return the receiver as an ASGI application."""

    @asynccontextmanager
    async def working(_: Starlette) -> AsyncGenerator[None]:
        workers = [receiver.inbox, receiver.lookout, *([receiver.announcer] if receiver.announcer else [])]
        tasks = [asyncio.create_task(supervise(each.background, each.work)) for each in workers]
        yield
        receiver.is_closing = True
        for task in tasks:
            task.cancel()

    app = Starlette(
        lifespan=working,
        routes=[
            Route("/v1/inbox/{job}", _take, methods=["POST"]),
            Route("/v1/inbox/{job}/{message_id:path}", _trace_message, methods=["GET"]),
            Route("/v1/runs/{job}", _run, methods=["POST"]),
            Route("/health", _health, methods=["GET"]),
            Route("/ready", _ready, methods=["GET"]),
            Route("/metrics", _metrics, methods=["GET"]),
        ],
        exception_handlers={
            MessageRefused: _refused,
            UserMistake: _broken,
            HTTPException: _no_route,
            ClientDisconnect: _gone,
            TimeoutError: _away,
        },
    )
    app.state.receiver = receiver
    return app


async def _take(request: Request) -> Response:
    receiver, job, message_id, body = await _message(request)
    rules = await receiver.row_rules.of(job)
    value = parse_body(body)
    message = build_message(rules, message_id or check_message_id(cloud_event_id(value) or ""), value)
    del body, value  # the message holds its rows; many may wait for the disk
    receipt = await receiver.inbox.receive(message)
    _check_same(receipt, job, message.message_id)
    receiver.meters.count(job, receipt.value)
    reply = {"message_id": message.message_id, "job": job, "rows": len(message.rows), "receipt": receipt.value}
    return _json(reply, STATUS[receipt])


async def _trace_message(request: Request) -> Response:
    receiver, job = _job(request)
    message_id: str = request.path_params["message_id"]
    if _authenticated(receiver, job, request, b"") not in (None, message_id):
        raise MessageRefused("bad_signature", "webhook-id is not the message that is asked for")
    found = await receiver.looks.call(LOOK_SECONDS, _whereabouts, receiver.ledger, job, message_id)
    if found is None:
        raise MessageRefused("unknown_message", f"job {job!r} has received no message {message_id!r}")
    waits = sum(each.run_id is None for each in found)
    state = "waiting" if waits == len(found) else "in_run" if not waits else "partly_waiting"
    return _json({"message_id": message_id, "job": job, "state": state, "rows": [_row(each) for each in found]})


async def _run(request: Request) -> Response:
    receiver, job, known, body = await _message(request)
    message_id = known or check_message_id(request.headers.get("webhook-id", ""))
    parameters = run_parameters(parse_body(body), job=job)
    receipt = await receiver.looks.call(LOOK_SECONDS, _request_run, receiver.ledger, message_id, parameters)
    _check_same(receipt, job, message_id)
    reply = await request_run(parameters, message_id)
    return _json({**reply, "receipt": receipt.value}, STATUS[receipt])


async def _health(request: Request) -> Response:
    receiver: Receiver = request.app.state.receiver
    return _json(receiver_health(receiver.lookout, receiver.backgrounds, datetime.now(UTC)))


async def _ready(request: Request) -> Response:
    receiver: Receiver = request.app.state.receiver
    found = failing_parts(
        receiver.lookout, receiver.backgrounds, is_open=receiver.inbox.is_open and not receiver.is_closing
    )
    status = HTTPStatus.SERVICE_UNAVAILABLE if found else HTTPStatus.OK
    return _json({"ready": not found, "failing": found}, status)


async def _metrics(request: Request) -> Response:
    receiver: Receiver = request.app.state.receiver
    text = await receiver.figures.call(LOOK_SECONDS, receiver.meters.text, receiver.backgrounds)
    return Response(text, media_type=CONTENT_TYPE)


def _job(request: Request) -> tuple[Receiver, str]:
    """The job that a request is for, judged by its head alone. Raises MessageRefused."""
    receiver: Receiver = request.app.state.receiver
    job: str = request.path_params["job"]
    if not receiver.row_rules.has(job):
        raise MessageRefused("unknown_job", "this receiver has no job of that name")
    check_sender(request.headers.items(), is_signed=receiver.secrets is not None)
    return receiver, job


async def _message(request: Request) -> tuple[Receiver, str, str | None, bytes]:
    """The receiver, job, message id and body of an authenticated request. No file of the job has been opened yet."""
    receiver, job = _job(request)
    most = receiver.limits.body_bytes
    check_body_headers(request.headers.items(), most, is_signed=receiver.secrets is not None)
    body = await _body(request, most)
    message_id = _authenticated(receiver, job, request, body)
    _allow(receiver, job)
    return receiver, job, message_id, body


async def _body(request: Request, most: int) -> bytes:
    """The body, if it is not longer than `most` bytes. Raises MessageRefused."""
    parts, size = list[bytes](), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise MessageRefused("too_large", f"over {most:,} bytes")
                parts.append(part)
    except TimeoutError:
        raise MessageRefused("too_slow", f"over {BODY_SECONDS:g} s") from None
    return b"".join(parts)


def _authenticated(receiver: Receiver, job: str, request: Request, body: bytes) -> str | None:
    """The id of a message: the signed one or, where no signature is needed, its own if any. Raises MessageRefused."""
    if receiver.secrets is not None:
        secrets = receiver.secrets.of(job)
        return check_signature(secrets, request.headers, body, now=datetime.now(UTC), window=WINDOW)
    reply = request.headers.get("webhook-id")
    return check_message_id(reply) if reply else None


def _allow(receiver: Receiver, job: str) -> None:
    """Count an authenticated message against the job's rate. Raises MessageRefused."""
    now, rate = time.monotonic(), receiver.limits.per_second
    allowance = receiver.allowances.setdefault(job, TokenBucket(rate, rate, rate, now))
    if seconds := allowance.take(now):
        raise MessageRefused("too_many", f"over {rate:g} a second for job {job!r}", retry_after_seconds=seconds)


def _check_same(receipt: Receipt, job: str, message_id: str) -> None:
    """Raise MessageRefused for another body under an id that this job has had."""
    if receipt is Receipt.DIFFERENT:
        raise MessageRefused("message_differs", f"message {message_id!r} of job {job!r} had another body")


def _request_run(ledger: Ledger, message_id: str, parameters: dict[str, Any]) -> Receipt:
    body_hash = row_id(canonical_json(parameters))
    with ledger.page() as tx:
        return ledger_inbox.request_run(tx, parameters["job"], message_id, body_hash, now=datetime.now(UTC))


def _whereabouts(ledger: Ledger, job: str, message_id: str) -> list[MessageRowTrace] | None:
    with ledger.view() as tx:
        return ledger_inbox.trace_message(tx, job, message_id)


def _row(row: MessageRowTrace) -> dict[str, object]:
    state = row.state or ("waiting" if row.run_id is None else "superseded" if row.superseded_by else "taken")
    return {"row_key": row.row_key, "state": state, "run_id": row.run_id, "reason": row.reason}


def _json(value: object, status: int = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _problem(status: int, kind: str, title: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    reply = {"type": f"urn:rowtide:{kind}", "title": title, "status": status, "detail": detail}
    return Response(orjson.dumps(reply), status, headers, media_type="application/problem+json")


async def _refused(request: Request, why: Exception) -> Response:
    assert isinstance(why, MessageRefused)
    receiver: Receiver = request.app.state.receiver
    job = request.path_params.get("job", "")
    if request.method == "POST":
        receiver.meters.count(job if receiver.row_rules.has(job) else "", why.kind)
    after = {} if why.retry_after_seconds is None else {"retry-after": f"{max(1, round(why.retry_after_seconds))}"}
    return _problem(why.status, why.kind, why.title, why.detail, after)


async def _broken(_: Request, mistake: Exception) -> Response:
    """The response for a mistake in the job itself: that is its operator's business, so a sender learns no paths."""
    log.warning(f"a job cannot receive: {mistake}")
    return _problem(503, "unavailable", "This cannot be done now", "the job is not fit to run; its operator was told")


async def _away(_: Request, __: Exception) -> Response:
    return _problem(
        503, "unavailable", "This cannot be done now", f"the ledger has not answered for {LOOK_SECONDS:g} s"
    )


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = HTTPStatus(error.status_code).phrase
    return _problem(error.status_code, words.lower().replace(" ", "_"), words, error.detail)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody hears it

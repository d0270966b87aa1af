"""The steps that every HTTP call passes: authentication, API version, planned faults, response headers.

Also the one place where a call can be intercepted: the plan of faults is asked before and after each.
"""

import gzip
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from emulator.aim import NOTHING_ASKED, Asked, Strike
from emulator.clock import rfc3339
from emulator.envelope import parse_json, too_large
from emulator.faults import Call, Drop
from emulator.identifiers import fresh_id
from emulator.plan import NAMING_A_MODEL
from emulator.problems import Problem, invalid
from emulator.striking import moment_of, strike_after, strike_before
from emulator.world import World, workspace_of

VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
BETAS = frozenset(yaml.safe_load(Path(__file__).with_name("betas.yaml").read_text()))
# Told, and never enforced.
BATCH_CALLS_PER_MINUTE = 4_000
MESSAGE_BYTES = 32 * 1024 * 1024
# What a plan of faults calls them.
KINDS = {
    "POST /v1/messages/batches": "create",
    "GET /v1/messages/batches": "list",
    "GET /v1/messages/batches/{id}": "retrieve",
    "GET /v1/messages/batches/{id}/results": "results",
    "POST /v1/messages/batches/{id}/cancel": "cancel",
    "DELETE /v1/messages/batches/{id}": "delete",
    "POST /v1/messages": "messages",
    "POST /v1/messages/count_tokens": "count_tokens",
}


@dataclass(frozen=True, slots=True)
class Caller:
    workspace: str
    version: str
    betas: tuple[str, ...]
    strike: Strike | None = None
    """What the plan of faults has in store for this call."""


class Doorway:
    """An ASGI endpoint around a handler of ours."""

    def __init__(self, world: World, handler: Callable[[Request, Caller], Awaitable[Response]], route: str) -> None:
        self._world, self._handler, self._route = world, handler, route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request_id = fresh_id("req")
        outcome = await self._outcome(request)
        if isinstance(outcome, Drop):
            await hang_up(request)
            return
        if isinstance(outcome, Problem):
            headers = {"content-type": "application/json"} | outcome.headers
            outcome = Response(outcome.body(request_id), outcome.status, headers)
        outcome.headers["request-id"] = request_id
        await outcome(scope, receive, send)

    async def _outcome(self, request: Request) -> Response | Problem | Drop:
        name = f"{request.method} {self._route}"
        ordinal = self._world.calls[name]
        self._world.calls[name] += 1
        try:
            caller = identify(request)
            self._world.faults.on_call(Call(name, caller.workspace, ordinal, "before"))
            outcome = await self._struck(request, caller, KINDS.get(name, name))
        except Problem as problem:
            return problem
        self._world.faults.on_call(Call(name, caller.workspace, ordinal, "after"))
        return self._sign(outcome, caller) if isinstance(outcome, Response) else outcome

    async def _struck(self, request: Request, caller: Caller, kind: str) -> Response | Problem | Drop:
        """The handler's answer, or what the plan of faults makes of the call."""
        aim = self._world.faults.aim
        asked = await _asked(request) if aim.reads_bodies and kind in NAMING_A_MODEL else NOTHING_ASKED
        strike = aim.at_call(kind, caller.workspace, asked)
        if strike is None:
            return await self._handler(request, caller)
        if moment_of(strike.act) == "before":
            aim.record(strike)
        if fault := await strike_before(strike, request):
            return fault
        response = await self._handler(request, replace(caller, strike=strike))
        if moment_of(strike.act) == "after":
            aim.record(strike)
        return await strike_after(strike, request, response)

    def _sign(self, response: Response, caller: Caller) -> Response:
        """Add the headers of a success. Messages and counts tell their own rates; of other calls none is enforced."""
        told = {
            "limit": str(BATCH_CALLS_PER_MINUTE),
            "remaining": str(BATCH_CALLS_PER_MINUTE - 1),
            "reset": rfc3339(self._world.clock.now() + timedelta(minutes=1)),
        }
        for what, value in told.items():
            response.headers.setdefault(f"anthropic-ratelimit-requests-{what}", value)
        response.headers["anthropic-organization-id"] = str(UUID(int=0x0E))
        response.headers["anthropic-workspace-id"] = caller.workspace
        return response


async def _asked(request: Request) -> Asked:
    """What the body of a call asks for; nothing, if it cannot be read: whoever handles the call says why."""
    # Kept by the request, so that it can be read again.
    await request.body()
    try:
        params = parse_json(await body_of(request, MESSAGE_BYTES))
    except Problem:
        return NOTHING_ASKED
    model = params.get("model")
    return Asked(model if isinstance(model, str) else None, params.get("stream") is True)


def identify(request: Request) -> Caller:
    """Return who is calling, and in which version of the API. Raises Problem."""
    bearer = request.headers.get("authorization", "")
    key = request.headers.get("x-api-key") or bearer.removeprefix("Bearer ").strip()
    if not key:
        raise Problem(401, "x-api-key header is required")
    if key.startswith("bad"):
        raise Problem(401, "API key is invalid.")
    version = request.headers.get("anthropic-version")
    if not version:
        raise invalid("anthropic-version: header is required")
    if version not in VERSIONS:
        raise invalid(f'anthropic-version: "{version}" is not a valid version')
    asked = ",".join(request.headers.getlist("anthropic-beta"))
    betas = tuple(beta for part in asked.split(",") if (beta := part.strip()))
    unknown = [beta for beta in betas if beta not in BETAS]
    if unknown:
        raise invalid(
            f"Unexpected value(s) {', '.join(f'`{beta}`' for beta in unknown)} for the `anthropic-beta` header. Please "
            "consult our documentation at platform.claude.com/docs or try again without the header."
        )
    return Caller(workspace_of(key), version, betas)


async def body_of(request: Request, most_bytes: int) -> bytes | bytearray:
    """Return the request's body, decoded. Raises Problem if it is too large."""
    body = bytearray()
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= most_bytes:
            body += part
    # A body that is too large is read to its end all the same: a client in mid-sentence would not hear the refusal.
    if size > most_bytes:
        raise too_large()
    encoding = request.headers.get("content-encoding", "identity")
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise _bad_encoding(f"Unsupported Content-Encoding: {encoding}", "request_body_encoding_unsupported")
    try:
        decoded = gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        raise _bad_encoding("The request body is not valid gzip", "request_body_encoding_invalid") from None
    if len(decoded) > most_bytes:
        raise too_large()
    return decoded


def _bad_encoding(message: str, code: str) -> Problem:
    return Problem(400, message, details={"error_code": code})


async def hang_up(request: Request) -> None:
    """Cut the connection at once, and wait until the server has noticed."""
    _transport(request).abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass


def close(request: Request) -> None:
    """Cut the connection once everything written has been sent."""
    _transport(request).close()


def _transport(request: Request) -> Any:
    """The server put it into the request's state for this."""
    transport = getattr(request.state, "transport", None)
    if transport is None:
        raise ConnectionResetError("the emulator hung up")
    return transport

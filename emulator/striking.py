"""Apply a fault plan's act to a call: before its effect, after it, or to the response body."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from emulator.acts import Act, Cut, Garble, Hang, Moment, Refuse, Slow
from emulator.aim import Strike
from emulator.faults import Drop
from emulator.problems import WORDS, Problem

PAGE = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>\n"
PIECES = 10


def moment_of(act: Act) -> Moment:
    match act:
        case Refuse() | Hang():
            return act.moment
        case Cut():
            return act.drop
        case _:
            return "after"


async def strike_before(strike: Strike, request: Request) -> Problem | Drop | None:
    """Apply a fault before the call's effect; None lets the call go on."""
    if moment_of(strike.act) == "after":
        return None
    if isinstance(strike.act, Hang):
        # What was asked has arrived, even if the client gives up waiting.
        await request.body()
    return await _interrupt(strike, request)


async def strike_after(strike: Strike, request: Request, response: Response) -> Response | Problem | Drop:
    """Apply a fault after the call's effect: return an answer instead of the true response, or one made from it."""
    act = strike.act
    if moment_of(act) == "before":
        return response
    match act:
        case Garble(garbage="json") if not isinstance(response, StreamingResponse):
            return Response(bytes(response.body)[: len(response.body) // 2], media_type="application/json")
        case Garble():
            return Response(PAGE, media_type="text/html")
        case Slow():
            return _slowed(response, act.slow_seconds)
        case _:
            return await _interrupt(strike, request) or response


async def _interrupt(strike: Strike, request: Request) -> Problem | Drop | None:
    match strike.act:
        case Refuse() as refuse:
            return _refusal(refuse, request.path_params.get("id"), strike.model)
        case Cut():
            return Drop()
        case Hang() as hang:
            await asyncio.sleep(hang.hang_seconds)
            return Drop() if hang.then == "drop" else None
        case _:
            return None


def _refusal(act: Refuse, batch_id: str | None, model: str | None) -> Problem:
    missing = f"Message Batch {batch_id} not found." if batch_id else f"model: {model}" if model else WORDS[404]
    usual = missing if act.status == 404 else WORDS[act.status]
    headers = {} if act.retry_after is None else {"retry-after": f"{act.retry_after:g}"}
    details = {"error_code": act.error_code} if act.error_code else None
    return Problem(act.status, act.message or usual, details=details, headers=headers)


def _slowed(response: Response, seconds: float) -> Response:
    """The same answer, whose body begins to come in pieces."""
    whole = response.body_iterator if isinstance(response, StreamingResponse) else _single(bytes(response.body))
    slowed = StreamingResponse(_in_pieces(whole, seconds), response.status_code)
    slowed.raw_headers = response.raw_headers
    return slowed


async def _single(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _in_pieces(chunks: AsyncIterable[Any], seconds: float) -> AsyncIterator[bytes]:
    is_first = True
    async for chunk in chunks:
        size = max(1, -(-len(chunk) // PIECES)) if is_first else len(chunk)
        for at in range(0, len(chunk), size):
            if is_first:
                await asyncio.sleep(seconds / PIECES)
            yield chunk[at : at + size]
        is_first = False

"""Bound HTTP answers of tool servers and registries: read no more bytes than an honest answer has."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx2

ANSWER_BYTES = 4_000_000
STREAM = "text/event-stream"  # of a tool server, lasts as long as the session; who reads it bounds each of its events


def bounded_client(*, streams: bool, **more: Any) -> httpx2.AsyncClient:
    """A client that ends an answer longer than ANSWER_BYTES; an event stream is bounded only with `streams`."""
    return httpx2.AsyncClient(event_hooks=response_bounds(ANSWER_BYTES, streams=streams), **more)


def response_bounds(most: int, *, streams: bool, packed: bool = False, but: str = "\0") -> dict[str, list[Any]]:
    """Hooks for an HTTP client that end an answer of more than `most` bytes as sent; event streams are bounded only
    with `streams`, a path that ends in `but` never. A compressed answer is accepted only with `packed`, because it does
    not say how long it is.
    """
    bound = partial(_bound, most, streams=streams, packed=packed, but=but)
    return {"request": [] if packed else [_ask_plainly], "response": [bound]}


async def _ask_plainly(request: httpx2.Request) -> None:
    request.headers["accept-encoding"] = "identity"


async def _bound(most: int, answer: httpx2.Response, *, streams: bool, packed: bool, but: str) -> None:
    if answer.request.url.path.endswith(but):
        return
    if (coding := answer.headers.get("content-encoding", "identity")) != "identity" and not packed:
        raise httpx2.ReadError(f"an answer that is compressed ({coding[:40]}), which was not asked for and is not read")
    if streams or not answer.headers.get("content-type", "").startswith(STREAM):
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        answer.stream = _Bounded(answer.stream, most)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, most: int) -> None:
        self._stream, self._most = stream, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for piece in self._stream:
            seen += len(piece)
            if seen > self._most:
                raise httpx2.ReadError(f"an answer of more than {self._most:,} bytes, which is not read on")
            yield piece

    async def aclose(self) -> None:
        """Close the answer."""
        await self._stream.aclose()

"""HTTP answers of strangers, of which no more is read than an honest one has to say."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2

ANSWER_BYTES = 16_000_000
STREAM = "text/event-stream"  # lasts as long as the session; each of its events is bounded by who reads it
AS_IT_IS = {"accept-encoding": "identity"}  # a compressed answer says nothing of how long it is


def bounded_client(headers: dict[str, str] | None = None, **more: Any) -> httpx2.AsyncClient:
    """A client that breaks off an answer that is longer than ANSWER_BYTES, or that does not say how long it is."""
    return httpx2.AsyncClient(headers={**(headers or {}), **AS_IT_IS}, event_hooks={"response": [_bound]}, **more)


async def _bound(answer: httpx2.Response) -> None:
    if (coding := answer.headers.get("content-encoding", "identity")) != "identity":
        raise httpx2.ReadError(f"an answer that is compressed ({coding[:40]}), which was not asked for and is not read")
    if not answer.headers.get("content-type", "").startswith(STREAM):
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        answer.stream = _Bounded(answer.stream)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for piece in self._stream:
            seen += len(piece)
            if seen > ANSWER_BYTES:
                raise httpx2.ReadError(f"an answer of more than {ANSWER_BYTES:,} bytes, which is not read on")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()

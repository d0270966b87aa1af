"""Write a streamed message over time, or break it off where a plan demands it."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import orjson
from starlette.requests import Request

from emulator.acts import Break
from emulator.doorway import close
from emulator.identifiers import fresh_id
from emulator.problems import TYPES, WORDS
from emulator.server_events import PING, is_delta

# The kind of event that follows the last delta of all.
AFTER_ALL = b"event: message_delta"
DELTAS_PER_PING = 40


async def written(
    events: Iterable[bytes], seconds: float, request: Request, broken: Break | None
) -> AsyncIterator[bytes]:
    """Yield the events, their deltas spread evenly over the given time, with a ping now and then."""
    events = list(events)
    deltas, said = sum(map(is_delta, events)), 0
    time = asyncio.get_running_loop().time
    begun = time()
    for event in events:
        if broken and (said == broken.deltas if is_delta(event) else event.startswith(AFTER_ALL)):
            async for last in _break_off(broken, request):
                yield last
            if broken.stall_after_deltas is None:
                return
            broken = None
        if is_delta(event):
            said += 1
            if seconds:
                await asyncio.sleep(max(0.0, begun + seconds * said / deltas - time()))
            if said % DELTAS_PER_PING == 0:
                yield PING
        yield event


async def _break_off(broken: Break, request: Request) -> AsyncIterator[bytes]:
    if broken.stall_after_deltas is not None:
        await asyncio.sleep(broken.stall_seconds)
    elif broken.error_after_deltas is not None:
        status = next(status for status, kind in TYPES.items() if kind == broken.error)
        error = {"type": broken.error, "message": WORDS[status]}
        yield b"event: error\ndata: %b\n\n" % orjson.dumps(
            {"type": "error", "error": error, "request_id": fresh_id("req")}
        )
    elif broken.cut_after_deltas is not None:
        close(request)
        # The response has no end: the server drops it when it notices that the connection is gone.
        await asyncio.Event().wait()

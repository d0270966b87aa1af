"""The receiver's HTTP server, with bounds on time, connections and memory. Imports uvicorn and h11.

uvicorn bounds a head's size and the time between two requests. What it leaves open is closed here: a head or a body
that never ends, the number of connections, the memory of bodies, what comes after a refusal. When there are too many
connections, or too much is unread, the one goes that has been at it for longest: a good message takes milliseconds.
"""

import asyncio
import logging
import resource
import time
from asyncio import AbstractEventLoop, BufferedProtocol, Transport
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import h11
import psutil
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

READ_BYTES = 16_384  # at once: what is refused by its head costs no more
HEAD_BYTES = 16_384
LINGER_BYTES = 262_144  # read and thrown away after a refusal, so that its sender gets to read it
STOP_SECONDS = 5  # for requests that are being answered when it is told to end
OTHER_FILES = 64  # of the process: ledger, log, Prefect

log = logging.getLogger("rowtide")


class Phase(StrEnum):
    """The phase of a connection."""

    HEAD = "head"  # between requests, or in a head
    BODY = "body"
    ANSWER = "answer"
    LINGER = "linger"  # refused with its body unread


SECONDS = {Phase.HEAD: 5.0, Phase.BODY: 35.0, Phase.ANSWER: 60.0, Phase.LINGER: 2.0}
NO_VICTIM = {Phase.ANSWER}  # it has sent all it should


@dataclass
class Connections:
    """The open connections, the longest in its phase first."""

    most: int
    most_unread_bytes: int = 64_000_000
    monotonic: Callable[[], float] = time.monotonic
    open: "dict[Connection, float]" = field(default_factory=dict["Connection", float])
    """Since when each is at its phase."""
    unread_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])

    def enter(self, connection: "Connection") -> None:
        """Let a connection begin a phase. Where there are too many, drop the one that is longest in its phase."""
        self.open.pop(connection, None)
        self.open[connection] = self.monotonic()
        if len(self.open) > self.most:
            self._drop_oldest("connections")

    def leave(self, connection: "Connection") -> None:
        """Forget a connection."""
        self.open.pop(connection, None)

    def hold(self, count: int) -> None:
        """Change the number of unread bytes by `count`."""
        self.unread_bytes += count
        if self.unread_bytes > self.most_unread_bytes:
            self._drop_oldest("memory")

    def drop_late(self) -> None:
        """Drop the connections that are too long in their phase."""
        now = self.monotonic()
        for connection in [each for each, since in self.open.items() if now - since > SECONDS[each.phase]]:
            self._drop(connection, connection.phase.value)

    def _drop_oldest(self, why: str) -> None:
        wanted = [Phase.BODY] if why == "memory" else [each for each in Phase if each not in NO_VICTIM]
        victim = next((each for each in self.open if each.phase in wanted), None)
        if victim is None and why == "connections":
            victim = next(reversed(self.open))
        if victim:
            self._drop(victim, why)

    def _drop(self, connection: "Connection", why: str) -> None:
        self.dropped[why] += 1
        connection.drop()


class Connection(BufferedProtocol, H11Protocol):  # pyright: ignore[reportIncompatibleMethodOverride] # eof_received
    """One connection: uvicorn's, within bounds."""

    buffer = bytearray(READ_BYTES)  # of all: what is read is copied before the next one reads

    def __init__(self, *given: Any, bounds: Connections, **named: Any) -> None:
        super().__init__(*given, **named)
        self.bounds, self.phase, self.held, self.lingered = bounds, Phase.HEAD, 0, 0

    def connection_made(self, transport: Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] # as uvicorn's
        super().connection_made(transport)
        self.bounds.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        self.bounds.leave(self)
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.phase is Phase.LINGER:
            self.lingered += nbytes
            if self.lingered > LINGER_BYTES:
                self.drop()
            return
        self.data_received(bytes(memoryview(self.buffer)[:nbytes]))
        self._look()
        if self.phase is Phase.BODY:
            self.held += nbytes
            self.bounds.hold(nbytes)

    def on_response_complete(self) -> None:
        """Go on with the next request; after a refusal that left the body unread, close instead."""
        self._release()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._linger()
            return
        super().on_response_complete()
        self.phase = Phase.HEAD
        self.bounds.enter(self)
        self._look()

    def send_400_response(self, msg: str) -> None:
        """Answer that this is not HTTP, where an answer is still possible."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.drop()
            return
        headers = [("content-type", "text/plain"), ("content-length", f"{len(msg)}"), ("connection", "close")]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=msg.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._linger()

    def drop(self) -> None:
        """Close it at once."""
        self._release()
        self.bounds.leave(self)
        self.transport.abort()

    def _linger(self) -> None:
        """Read and discard what still comes: a sender that is cut off does not get to read why."""
        self._release()
        self.phase = Phase.LINGER
        self.bounds.enter(self)
        self.flow.resume_reading()
        self.transport.write_eof()

    def _look(self) -> None:
        """Record the phase that the other side has come to."""
        if self.phase is Phase.LINGER:
            return
        state = self.conn.their_state
        phase = Phase.HEAD if state is h11.IDLE else Phase.BODY if state is h11.SEND_BODY else Phase.ANSWER
        if phase is not self.phase and self in self.bounds.open:
            self.phase = phase
            self.bounds.enter(self)
            if phase is not Phase.BODY:
                self._release()

    def _release(self) -> None:
        held, self.held = self.held, 0
        self.bounds.hold(-held)


class Server(uvicorn.Server):
    """A server that prints its address once it listens, and watches its connections."""

    def __init__(self, config: uvicorn.Config, connections: Connections, print_line: Callable[[str], None]) -> None:
        super().__init__(config)
        self._connections, self._print_line = connections, print_line

    async def startup(self, sockets: Any = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_log_fault)
        await super().startup(sockets)
        if self.started:
            name, port = self.servers[0].sockets[0].getsockname()[:2]
            self._print_line(f"receiving on http://{name}:{port}")

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # a second
            self._connections.drop_late()
        return await super().on_tick(counter)


def build_server(app: Any, host: str, port: int, connections: Connections, print_line: Callable[[str], None]) -> Server:
    """Return the HTTP server for an application."""

    class Bounded(Connection):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, bounds=connections, **named)

    config = uvicorn.Config(
        app, host, port, http=Bounded, ws="none", loop="asyncio", access_log=False, log_config=None,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=HEAD_BYTES, backlog=min(1024, connections.most),
    )  # fmt: skip
    return Server(config, connections, print_line)


def connection_limit(wanted: int) -> int:
    """Return how many connections are possible: `wanted`, unless this process may not open that many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = wanted + OTHER_FILES + psutil.Process().num_fds()
    if soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, wanted - files + soft))


def _log_fault(_: AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log a fault in one line: asyncio's own handler writes a traceback for each, thousands a second without free
    files.
    """
    error = context.get("exception")
    log.warning("the HTTP server: %s (%s)", context["message"], f"{type(error).__name__}: {error}" if error else "")

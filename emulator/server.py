"""Serve the emulated API on a socket, from the command line or in a thread beside a test."""

import asyncio
import socket
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from emulator.clock import Clock
from emulator.known_answers import NONE_KNOWN, read_answers
from emulator.routes import create_app
from emulator.settings import SettingsBook
from emulator.world import World

__all__ = ["Emulator", "World", "create_app", "start"]


class AbortableProtocol(H11Protocol):
    """Lets a request find its transport, because a fault may cut the connection without an answer."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state = self.app_state | {"transport": transport}


class Emulator:
    """A running emulator: where it is (`url`) and what it knows (`world`). Ends with its `with` block."""

    def __init__(self, world: World, host: str, port: int) -> None:
        self.world = world
        # Bound and listening before anything serves: whoever learns the address can connect.
        self._socket = socket.create_server((host, port), backlog=512)
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(world),
            http=AbortableProtocol,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=75,
        )
        self._server = uvicorn.Server(config)
        self._thread: Thread | None = None

    async def serve(self) -> None:
        """Serve until `stop` is called or the process is told to end."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        self._server.should_exit = True

    def __enter__(self) -> "Emulator":
        self._thread = Thread(target=asyncio.run, args=(self.serve(),), name="emulator", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._thread:
            self._thread.join()
        self.world.close()

    async def __aenter__(self) -> "Emulator":
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)


def start(
    data: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    batch_seconds: tuple[float, float] = (0.0, 0.0),
    clock: Clock | None = None,
    queue_limit: int = 500_000,
    seed: int = 0,
    answers: Path | None = None,
    **settings: Any,
) -> Emulator:
    """An emulator for a test: `with start() as emulator` (or `async with`) serves on a free port in a thread.

    Batches end at once unless `batch_seconds` says otherwise; give a frozen `clock` to decide when. The rest are
    settings: `limits={"requests": 60}`, `reply_seconds=(0.1, 0.3)`, `hardness="features"`.
    """
    world = World(
        data,
        clock=clock,
        batch_seconds=batch_seconds,
        queue_limit=queue_limit,
        seed=seed,
        settings=SettingsBook(**settings),
        known=read_answers(answers) if answers else NONE_KNOWN,
    )
    return Emulator(world, host, port)

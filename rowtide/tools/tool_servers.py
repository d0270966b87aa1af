"""One tool server over all its sessions: opened when first needed, and again when one has died.

It is not tried for ever. One that comes to nothing again and again is left alone for a while, and its calls are
answered for it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from rowtide.errors import UserMistake
from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools import tool_sessions
from rowtide.tools.function_sessions import FunctionSession, function_program
from rowtide.tools.server_secrets import ServerSecrets
from rowtide.tools.sessions import Fate, Reply, Session
from rowtide.tools.tool_rules import Listed

STRIKES = 3  # so many calls in a row without an answer, and the session is replaced
GIVE_UP = 5  # so many sessions in a row that came to nothing, and calls are answered for it
GIVE_UP_KILLED = 20  # the same, where each was ended by a call that was alone in it
REST_SECONDS = 5  # until it is tried again
LONGEST_PAUSE_SECONDS = 2.0
STOP_SECONDS = 15


class CallResult(NamedTuple):
    """The result of a call."""

    text: str
    is_error: bool
    seconds: float = 0.0


class ToolServer:
    """One tool server over all its sessions."""

    def __init__(self, name: str, spec: ToolServerSpec, folder: Path, environment: Mapping[str, str]) -> None:
        self.name, self._spec = name, spec
        self._secrets = ServerSecrets(f"tools.{name}", environment)
        self._new_session = _session_maker(name, spec, folder, environment, self._secrets)
        self._room = _Room(spec.concurrency)
        self._limiter = _RateLimiter(spec.calls_per_second)
        self._starting = asyncio.Lock()
        self._session: Session | None = None
        self._owners: set[asyncio.Task[None]] = set()
        self._listed: dict[str, Listed] | None = None
        self._strikes = self._deaths = self._killed = 0
        self._rests_until = 0.0
        self._mistake = UserMistake("it stops again and again while answering", key=f"tools.{name}")

    async def listed(self, *, is_patient: bool = True) -> dict[str, Listed]:
        """Its tools, as it listed them first. Raises UserMistake when it does not start."""
        if self._listed is None:
            session = await self._open(is_patient=is_patient)
            self._listed = self._listed or session.listed  # what it says of them later counts for nothing
        return self._listed

    async def call(
        self, tool: str, arguments: dict[str, object], meta: dict[str, object], *, may_repeat: bool
    ) -> CallResult:
        """Call one of its tools. If the server dies under a call that is safe to repeat, make that call once more,
        alone: of the calls it died under, only the one that kills it again fails.
        """
        began = time.perf_counter()
        async with self._room.beside_others():
            reply = await self._once(tool, arguments, meta)
        if reply.fate in (Fate.UNREACHABLE, Fate.GONE):
            reply = await self._alone(tool, arguments, meta) if may_repeat else _not_again(reply, self.name, tool)
        return CallResult(reply.text, reply.is_error, time.perf_counter() - began)

    async def _alone(self, tool: str, arguments: dict[str, object], meta: dict[str, object]) -> Reply:
        async with self._room.alone():
            reply = await self._once(tool, arguments, meta)
        if reply.fate is not Fate.GONE:
            return reply
        twice = f"{self.name}.{tool} was called twice with this, the second time alone, and ended its server each time."
        return reply._replace(text=f"{reply.text} {twice} Do not call it with this again.")

    @property
    def is_unhealthy(self) -> bool:
        """Whether it has died, or did not answer when it was last called."""
        return bool(self._strikes or self._deaths or self._killed)

    async def stop(self) -> None:
        """End its sessions."""
        if self._session is not None:
            self._session.over.set()
        if self._owners:
            _, stuck = await asyncio.wait(self._owners, timeout=STOP_SECONDS)
            for owner in stuck:
                owner.cancel()

    async def _once(self, tool: str, arguments: dict[str, object], meta: dict[str, object]) -> Reply:
        await self._limiter.wait()
        try:
            session = await self._open(is_patient=True)
        except UserMistake as mistake:
            words = f"The tool server {self.name!r} cannot be reached now: {mistake.what}"
            return Reply(words, True, Fate.UNANSWERED)
        reply = await session.call(tool, arguments, meta, timeout_seconds=self._spec.timeout_seconds)
        match reply.fate:
            case Fate.ANSWERED:
                self._strikes = self._deaths = self._killed = 0
            case Fate.GONE:
                self._replace(session)
            case Fate.UNANSWERED | Fate.UNREACHABLE:
                self._strike(session)
        return reply

    def _strike(self, session: Session) -> None:
        self._strikes += 1
        if self._strikes >= STRIKES:
            self._replace(session)

    def _replace(self, session: Session) -> None:
        """Drop a session, once: of the calls that die with it, only the first counts."""
        if session is self._session:
            session.over.set()
            self._session, self._strikes = None, 0
            self._fell(under_one_call=self._room.taken <= 1)

    def _fell(self, *, under_one_call: bool = False) -> None:
        """Count a death of the server; with `under_one_call` it is evidence against that call, not the server."""
        self._killed += under_one_call
        self._deaths += not under_one_call
        if self._is_given_up:
            self._rests_until = asyncio.get_running_loop().time() + REST_SECONDS

    @property
    def _is_given_up(self) -> bool:
        return self._deaths >= GIVE_UP or self._killed >= GIVE_UP_KILLED

    async def _open(self, *, is_patient: bool) -> Session:
        """The open session, or a new one. Raises UserMistake while the server is not to be started."""
        if self._session is not None and not self._session.owner.done():
            return self._session
        async with self._starting:
            while self._session is None or self._session.owner.done():
                await self._pause()
                session = self._new_session()
                self._owners.add(session.owner)
                session.owner.add_done_callback(self._owners.discard)
                if await session.is_ready():
                    self._session = session
                    break
                self._fell()
                self._mistake = self._did_not_start(session)
                if not is_patient:
                    raise self._mistake
            return self._session

    async def _pause(self) -> None:
        """Wait before a restart, longer with each death; after too many deaths do not wait but fail."""
        if self._is_given_up and asyncio.get_running_loop().time() < self._rests_until:
            raise self._mistake
        if self._deaths:
            await asyncio.sleep(min(0.05 * 2**self._deaths, LONGEST_PAUSE_SECONDS))

    def _did_not_start(self, session: Session) -> UserMistake:
        if session.mistake is not None:
            return session.mistake
        if self._spec.python is not None:
            what = f"its functions could not be started: {session.why()}"
            return UserMistake(what, file=str(self._spec.python), key=f"tools.{self.name}")
        where = self._spec.url or " ".join([self._spec.command or "", *self._spec.args])
        what = f"`{where}` did not start as an MCP server: {session.why()}"
        return UserMistake(what, file="job.yaml", key=f"tools.{self.name}")


def _session_maker(
    name: str, spec: ToolServerSpec, folder: Path, environment: Mapping[str, str], secrets: ServerSecrets
) -> Callable[[], Session]:
    """Return what opens a session with the job's own functions, or with a server. Raises UserMistake."""
    if spec.python is not None:
        if not (file := folder / spec.python).is_file():
            raise UserMistake("no such file", file=file, key=f"tools.{name}.python")
        start = function_program(spec, folder, environment, secrets)
        return lambda: FunctionSession(name, file, start, secrets)
    transport = tool_sessions.transport_of(spec, folder, environment, secrets)
    return lambda: tool_sessions.McpSession(name, transport, secrets)


def _not_again(reply: Reply, server: str, tool: str) -> Reply:
    """The reply for a call that changes something, when nobody knows whether it took place."""
    return reply._replace(text=f"{reply.text} {server}.{tool} may have taken place, and is not called a second time.")


class _Room:
    """A lock that admits a number of concurrent calls, or one call alone; `taken` counts the concurrent ones."""

    def __init__(self, places: int) -> None:
        self._places, self._free, self._one = places, asyncio.Semaphore(places), asyncio.Lock()
        self.taken = 0

    @asynccontextmanager
    async def beside_others(self) -> AsyncGenerator[None]:
        async with self._free:
            self.taken += 1
            try:
                yield
            finally:
                self.taken -= 1

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        async with self._one, AsyncExitStack() as held:
            for _ in range(self._places):
                await held.enter_async_context(self._free)
            yield


class _RateLimiter:
    """Spaces calls evenly, so that no more than a given number begin in a second."""

    def __init__(self, per_second: float | None) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        if self._gap:
            now = asyncio.get_running_loop().time()
            turn, self._next = max(now, self._next), max(now, self._next) + self._gap
            await asyncio.sleep(turn - now)

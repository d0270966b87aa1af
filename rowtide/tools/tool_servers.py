"""A server of tools, through all its sessions: opened when first needed, and again when one has died.

It is not tried for ever. One that comes to nothing again and again is left alone for a while, and its calls are
answered for it.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rowtide.errors import UserMistake
from rowtide.job.job import ToolServerSpec
from rowtide.tools.tool_rules import Filling, Listed
from rowtide.tools.tool_sessions import Fate, Reply, Session, transport_of

STRIKES = 3  # so many calls in a row without an answer, and the session is replaced
GIVE_UP = 5  # so many sessions in a row that came to nothing, and calls are answered for it
REST_SECONDS = 5  # until it is tried again
LONGEST_PAUSE_SECONDS = 2.0
STOP_SECONDS = 15


class Said(NamedTuple):
    """What came of a call."""

    text: str
    is_error: bool
    seconds: float = 0.0


class ToolServer:
    """One server, through all its sessions."""

    def __init__(self, name: str, spec: ToolServerSpec, folder: Path, environment: Mapping[str, str]) -> None:
        self.name, self._spec = name, spec
        self._filling = Filling(name, environment)
        self._transport = transport_of(spec, folder, environment, self._filling)
        self._room = asyncio.Semaphore(spec.concurrency)
        self._pace = _Pace(spec.calls_per_second)
        self._starting = asyncio.Lock()
        self._session: Session | None = None
        self._owners: set[asyncio.Task[None]] = set()
        self._listed: dict[str, Listed] | None = None
        self._strikes = self._deaths = 0
        self._rests_until = 0.0
        self._mistake = UserMistake("it stops again and again while answering", key=f"tools.{name}")

    async def listed(self, *, is_patient: bool = True) -> dict[str, Listed]:
        """Its tools, as it listed them first. Raises UserMistake when it will not start."""
        if self._listed is None:
            session = await self._open(is_patient=is_patient)
            self._listed = self._listed or session.listed  # what it says of them later counts for nothing
        return self._listed

    async def call(self, tool: str, arguments: dict[str, object], meta: dict[str, object], *, may_repeat: bool) -> Said:
        """Call one of its tools; once more if the server died under it and that does no harm."""
        async with self._room:
            began = time.perf_counter()
            reply = await self._once(tool, arguments, meta)
            if may_repeat and reply.fate in (Fate.LOST, Fate.GONE):
                reply = await self._once(tool, arguments, meta)
            text = self._filling.hide(reply.text) if reply.is_error else reply.text
            return Said(text, reply.is_error, time.perf_counter() - began)

    async def stop(self) -> None:
        """End its sessions."""
        if self._session is not None:
            self._session.over.set()
        if self._owners:
            _, stuck = await asyncio.wait(self._owners, timeout=STOP_SECONDS)
            for owner in stuck:
                owner.cancel()

    async def _once(self, tool: str, arguments: dict[str, object], meta: dict[str, object]) -> Reply:
        await self._pace.wait()
        try:
            session = await self._open(is_patient=True)
        except UserMistake as mistake:
            words = f"The tool server {self.name!r} cannot be reached now: {mistake.what}"
            return Reply(words, True, Fate.UNANSWERED)
        reply = await session.call(tool, arguments, meta, timeout_seconds=self._spec.timeout_seconds)
        match reply.fate:
            case Fate.ANSWERED:
                self._strikes = self._deaths = 0
            case Fate.GONE:
                self._replace(session)
            case Fate.UNANSWERED | Fate.LOST:
                self._strike(session)
        return reply

    def _strike(self, session: Session) -> None:
        self._strikes += 1
        if self._strikes >= STRIKES:
            self._replace(session)

    def _replace(self, session: Session) -> None:
        """Let go of a session, once: of the calls that die with it, only the first counts."""
        if session is self._session:
            session.over.set()
            self._session, self._strikes = None, 0
            self._fell()

    def _fell(self) -> None:
        self._deaths += 1
        if self._deaths >= GIVE_UP:
            self._rests_until = asyncio.get_running_loop().time() + REST_SECONDS

    async def _open(self, *, is_patient: bool) -> Session:
        """The session there is, or a new one. Raises UserMistake when there will be none for now."""
        if self._session is not None and not self._session.owner.done():
            return self._session
        async with self._starting:
            while self._session is None or self._session.owner.done():
                await self._pause()
                session = Session(self.name, self._transport)
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
        """Wait the longer, the more often it fell; when that was too often, not at all."""
        if self._deaths >= GIVE_UP and asyncio.get_running_loop().time() < self._rests_until:
            raise self._mistake
        if self._deaths:
            await asyncio.sleep(min(0.05 * 2**self._deaths, LONGEST_PAUSE_SECONDS))

    def _did_not_start(self, session: Session) -> UserMistake:
        where = self._spec.url or " ".join([self._spec.command or "", *self._spec.args])
        said = self._filling.hide(session.why())
        what = f"`{where}` did not start as an MCP server: {said}"
        return UserMistake(what, file="job.yaml", key=f"tools.{self.name}")


class _Pace:
    """At most so many calls begin in a second, evenly."""

    def __init__(self, per_second: float | None) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        if self._gap:
            now = asyncio.get_running_loop().time()
            turn, self._next = max(now, self._next), max(now, self._next) + self._gap
            await asyncio.sleep(turn - now)

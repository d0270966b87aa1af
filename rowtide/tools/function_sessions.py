"""One session with a job's own functions: Python of the job, in a process of its own, called as a server's tools are.

No MCP is spoken on the way: a call and its result are a line of JSON each, which costs us a fraction of it.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from rowtide.errors import UserMistake
from rowtide.job.job_spec import ToolServerSpec
from rowtide.json_bytes import dump_json
from rowtide.tools.programs import Program
from rowtide.tools.server_secrets import INHERITED, ServerSecrets
from rowtide.tools.sessions import START_SECONDS, Fate, Reply, Session, error_reply, last_words
from rowtide.tools.tool_results import result_text
from rowtide.tools.tool_rules import Listed

HOST = Path(__file__).with_name("function_host.py")


def function_program(
    spec: ToolServerSpec, folder: Path, environment: Mapping[str, str], secrets: ServerSecrets
) -> Callable[[], Awaitable[Program]]:
    """A function that starts the process of a job's functions, with every `${NAME}` of `env` filled in."""
    given = {each: environment[each] for each in INHERITED if each in environment}
    given |= {name: secrets.fill(value, key="env", name=name) for name, value in spec.env.items()}
    # -P: a module of the job's that is called like one of the library's must not stand in for it.
    command = [sys.executable, "-P", str(HOST), str(spec.python)]
    return partial(Program.start, command, folder=folder, environment=given)


class FunctionSession(Session):
    """One life of the process in which a job's functions run."""

    def __init__(self, name: str, file: Path, start: Callable[[], Awaitable[Program]], secrets: ServerSecrets) -> None:
        self._file, self._start = file, start
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any] | None]] = {}
        self._program: Program
        super().__init__(name, secrets)

    async def live(self) -> None:
        """Start the process, take its functions' names, and hear what calls return until it ends or is over."""
        self._program = await self._start()
        lines = self._program.lines()
        listening: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(START_SECONDS):
                first = await anext(lines, b"")
            self._read_first(first)
            listening = asyncio.create_task(self._listen(lines))
            self.ready.set()
            over = asyncio.create_task(self.over.wait())
            await asyncio.wait([listening, over], return_when=asyncio.FIRST_COMPLETED)
            over.cancel()
        finally:
            self.fault = self._program.fault
            self.last_words = last_words(self.secrets.hide(self._program.last_words))
            for future in self._waiting.values():
                if not future.done():
                    future.set_result(None)
            await self._program.end()
            if listening is not None:
                listening.cancel()

    async def call(
        self, tool: str, arguments: dict[str, object], meta: dict[str, object], *, timeout_seconds: float
    ) -> Reply:
        """Call a function. Always returns a reply, whatever it does."""
        number, key = next(self._numbers), next(iter(meta.values()), None)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._send({"id": number, "tool": tool, "arguments": arguments, "key": key})
                found = None if self.owner.done() else await future
        except TimeoutError:
            await self._give_up(number)
            return error_reply(
                f"{self.name}.{tool} did not answer within {timeout_seconds:g} seconds.", Fate.UNANSWERED
            )
        except OSError:
            return self.gone()
        finally:
            del self._waiting[number]
        if found is None:
            return self.gone()
        text = result_text(found["blocks"], found.get("structured"))
        return Reply(self.secrets.hide(text), found["is_error"], Fate.ANSWERED)

    async def _send(self, call: Mapping[str, Any]) -> None:
        await self._program.send(dump_json(call) + b"\n")

    async def _give_up(self, number: int) -> None:
        """Have a call that nobody waits for any more cancelled, where it can be."""
        try:
            async with asyncio.timeout(0.1):  # a process that reads nothing must not keep us
                await self._send({"cancel": number})
        except (OSError, TimeoutError):
            pass

    def _read_first(self, line: bytes) -> None:
        """Take the names of the functions. Raises UserMistake for what is wrong with their file."""
        ended = {"mistake": f"the process ended while it was read. {last_words(self._program.last_words)}".strip()}
        found: dict[str, Any] = orjson.loads(line) if line else ended
        if mistake := found.get("mistake"):
            self.mistake = UserMistake(self.secrets.hide(mistake), file=self._file, line=found.get("line"))
            raise self.mistake
        self.listed = {
            each["name"]: Listed(each["name"], self.secrets.hide(each["description"]), each["input_schema"], True)
            for each in found["tools"]
        }

    async def _listen(self, lines: AsyncIterator[bytes]) -> None:
        async for line in lines:
            found = _parsed(line)
            future = self._waiting.get(found["id"])
            if future is not None and not future.done():
                future.set_result(found)


def _parsed(line: bytes) -> Mapping[str, Any]:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:  # NaN, or half a pair of surrogates, which a function may return
        return json.loads(line)

"""The tools a row may call: the only module that imports `mcp`, whose types stop here.

A server is a process of its own, started when it is first needed and again when it has died. Whatever it does, hang,
crash or talk nonsense, a call ends in an outcome the model can read; the row is never lost.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import orjson
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, TextContent
from mcp_types import Tool as Listed

from rowtide.errors import UserMistake, nearest
from rowtide.job import ToolServerSpec

BETWEEN = "__"  # server.tool is server__tool on the wire, where dots are not allowed
START_SECONDS = 30
INHERITED = ("HOME", "PATH", "LANG", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    wire_name: str
    description: str
    input_schema: dict[str, Any]
    read_only: bool


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What came of a call; an error is words for the model."""

    tool: str
    text: str
    is_error: bool
    seconds: float


class ToolPool:
    """The tool servers of a job, for as long as an `async with` lasts."""

    def __init__(
        self, specs: Mapping[str, ToolServerSpec], folder: Path, environment: Mapping[str, str], output_chars: int
    ) -> None:
        self._servers = {name: _Server(name, spec, folder, environment) for name, spec in specs.items()}
        self._output_chars = output_chars

    async def __aenter__(self) -> "ToolPool":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    async def catalogue(self) -> list[Tool]:
        """Every tool a row may call, in a fixed order. Raises UserMistake for a server that will not start."""
        listed = await asyncio.gather(*(server.tools() for server in self._servers.values()))
        return [tool for tools in listed for tool in tools]

    async def call(self, wire_name: str, arguments: dict[str, object]) -> ToolOutcome:
        """Call a tool by the name the model uses. Never raises for what the server does."""
        name, _, tool = wire_name.partition(BETWEEN)
        seconds = 0.0
        if (server := self._servers.get(name)) is None or not server.allows(tool):
            text, is_error = f"There is no tool {wire_name!r}.", True
        else:
            text, is_error, seconds = await server.call(tool, arguments)
        return ToolOutcome(f"{name}.{tool}", _cut(text, self._output_chars), is_error, seconds)


class _Server:
    """One server's process and the session with it."""

    def __init__(self, name: str, spec: ToolServerSpec, folder: Path, environment: Mapping[str, str]) -> None:
        self.name, self._spec = name, spec
        self._parameters = StdioServerParameters(
            command=sys.executable if spec.command in ("python", "python3") else spec.command,
            args=spec.args,
            env=_environment_of(name, spec, environment),
            cwd=folder,
        )
        self._room = asyncio.Semaphore(spec.concurrency)
        self._starting = asyncio.Lock()
        self._client: Client | None = None
        self._owner: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def allows(self, tool: str) -> bool:
        return self._spec.tools is None or tool in self._spec.tools

    async def tools(self) -> list[Tool]:
        listed = {tool.name: tool for tool in (await (await self._session()).list_tools()).tools}
        for wanted in self._spec.tools or ():
            if wanted not in listed:
                raise UserMistake(
                    f"the server has no tool {wanted!r}; it has {', '.join(sorted(listed))}",
                    key=f"tools.{self.name}.tools",
                    meant=nearest(wanted, listed),
                )
        return [_tool(self.name, listed[name]) for name in sorted(listed) if self.allows(name)]

    async def call(self, tool: str, arguments: dict[str, object]) -> tuple[str, bool, float]:
        """Call one of its tools: (what it said, whether that is an error, seconds on the wire)."""
        async with self._room:
            began = time.perf_counter()
            text, is_error = await self._answer(tool, arguments)
            return text, is_error, time.perf_counter() - began

    async def _answer(self, tool: str, arguments: dict[str, object]) -> tuple[str, bool]:
        try:
            client = await self._session()
            async with asyncio.timeout(self._spec.timeout_seconds):
                result = await client.call_tool(tool, arguments)
        except TimeoutError:
            return f"{self.name}.{tool} did not answer within {self._spec.timeout_seconds:g} seconds.", True
        except UserMistake as mistake:
            return str(mistake), True
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                await self.stop()
                return f"The tool server {self.name!r} stopped while answering; it will be started again.", True
            return f"{self.name}.{tool} failed: {error}", True
        except Exception as error:  # noqa: BLE001 # a foreign program on the other side: anything may come back
            await self.stop()
            return f"{self.name}.{tool} failed: {type(error).__name__}: {error}", True
        return _text_of(result), bool(result.is_error)

    async def stop(self) -> None:
        """End the session, if there is one; the next call starts another."""
        owner, self._owner, self._client = self._owner, None, None
        self._over.set()
        if owner is not None:
            await asyncio.wait([owner])

    async def _session(self) -> Client:
        async with self._starting:
            if self._client is None:
                self._over = asyncio.Event()
                ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
                self._owner = asyncio.create_task(self._live(ready, self._over))
                self._client = await ready
            return self._client

    async def _live(self, ready: "asyncio.Future[Client]", over: asyncio.Event) -> None:
        """Own the session: it must be opened and closed by one and the same asyncio task."""
        with tempfile.TemporaryFile("w+") as said:
            try:
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout(START_SECONDS):
                        transport = _Quiet(self._parameters, said)
                        client = await stack.enter_async_context(Client(transport))
                    ready.set_result(client)
                    await over.wait()
            except (OSError, MCPError, TimeoutError, ExceptionGroup) as error:
                if not ready.done():
                    ready.set_exception(self._did_not_start(error, said))

    def _did_not_start(self, error: BaseException, said: TextIO) -> UserMistake:
        said.seek(0)
        last_words = " ".join(said.read().split()[-40:])
        command = " ".join([self._spec.command, *self._spec.args])
        what = f"`{command}` did not start as an MCP server: {last_words or error}"
        return UserMistake(what, file="job.yaml", key=f"tools.{self.name}")


CONNECTION_CLOSED = -32000


class _Quiet:
    """A stdio transport whose server's stderr goes to a file instead of our terminal."""

    def __init__(self, parameters: StdioServerParameters, said: TextIO) -> None:
        self._streams = stdio_client(parameters, errlog=said)

    async def __aenter__(self) -> Any:
        return await self._streams.__aenter__()

    async def __aexit__(self, *error: Any) -> Any:
        return await self._streams.__aexit__(*error)


def _tool(server: str, listed: Listed) -> Tool:
    hints = listed.annotations
    return Tool(
        name=f"{server}.{listed.name}",
        wire_name=f"{server}{BETWEEN}{listed.name}",
        description=listed.description or listed.title or listed.name,
        input_schema={"additionalProperties": False, **listed.input_schema},
        read_only=bool(hints and hints.read_only_hint),
    )


def _text_of(result: CallToolResult) -> str:
    if result.structured_content is not None and not result.is_error:
        return orjson.dumps(result.structured_content).decode()
    return "\n".join(
        block.text if isinstance(block, TextContent) else f"[{block.type} left out: rows read text only]"
        for block in result.content
    )


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}\n[cut: {len(text):,} characters, the first {limit:,} shown]"


def _environment_of(name: str, spec: ToolServerSpec, environment: Mapping[str, str]) -> dict[str, str]:
    def filled(value: str) -> str:
        if not (value.startswith("${") and value.endswith("}")):
            return value
        if value[2:-1] not in environment:
            raise UserMistake(f"{value[2:-1]} is not set in the environment", file="job.yaml", key=f"tools.{name}.env")
        return environment[value[2:-1]]

    inherited = {each: os.fspath(environment[each]) for each in INHERITED if each in environment}
    return inherited | {key: filled(value) for key, value in spec.env.items()}

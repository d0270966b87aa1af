"""One session with a tool server, over stdio or HTTP. The only module that imports `mcp`; its types stop here.

Whatever the server does, hang, crash or talk nonsense, a call ends in a reply.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    PARSE_ERROR,
    EmbeddedResource,
    ErrorData,
    JSONRPCError,
    ResourceLink,
    TextContent,
    TextResourceContents,
    jsonrpc_message_adapter,
)

from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools.http_bounds import bounded_client
from rowtide.tools.programs import LINE_BYTES, Program
from rowtide.tools.server_secrets import INHERITED, ServerSecrets, mask_library_logs
from rowtide.tools.sessions import ERROR_CHARS, START_SECONDS, Fate, Reply, Session, error_reply, last_words
from rowtide.tools.tool_results import parse_json_or_call_id, result_text
from rowtide.tools.tool_rules import Listed

LIST_PAGES = 1000
NOISE_BYTES = 4000  # of a line that is no MCP, looked through for secrets before it is cut
SESSION_IS_GONE = "Session terminated"  # what `mcp` makes of a 404: the HTTP server has forgotten us
UNUSABLE = (ValueError, TypeError, AttributeError, RuntimeError)  # what `mcp` raises of an answer that it has


class McpSession(Session):
    """One life of a server that speaks MCP."""

    def __init__(self, name: str, transport: "Transport", secrets: ServerSecrets) -> None:
        self._transport = transport
        self.is_closed = False
        self.is_remote = False
        self.noise = ""
        self._client: Client
        super().__init__(name, secrets)

    async def call(
        self, tool: str, arguments: dict[str, object], meta: dict[str, object], *, timeout_seconds: float
    ) -> Reply:
        """Call a tool. Always returns a reply, whatever the server does."""
        name = f"{self.name}.{tool}"
        try:
            async with asyncio.timeout(timeout_seconds):
                result = await self._client.call_tool(tool, arguments, meta=_open_map(meta))
            text = result_text([*map(_block, result.content)], result.structured_content)
            return Reply(self.secrets.hide(text), bool(result.is_error), Fate.ANSWERED)
        except TimeoutError:
            noise = f" It wrote something that is not MCP: {self.noise!r}." if self.noise else ""
            return error_reply(f"{name} did not answer within {timeout_seconds:g} seconds.{noise}", Fate.UNANSWERED)
        except MCPError as error:
            return self._refused(name, error)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise  # somebody wants us to stop; otherwise it is only the transport, dying
            return self.gone()
        except Exception as error:  # noqa: BLE001 # a foreign program on the other side: anything may come back
            fate = Fate.ANSWERED if isinstance(error, UNUSABLE) else Fate.UNANSWERED
            return error_reply(f"{name} answered something that cannot be used: {self.in_short(error)}", fate)

    def _refused(self, name: str, error: MCPError) -> Reply:
        """The reply for a protocol error: either the session is over, or the server answered with an error."""
        if self.is_closed or error.message == SESSION_IS_GONE:
            return self.gone()
        fate = Fate.ANSWERED
        if self.is_remote:  # there these are often the transport's own words
            fate = Fate.UNREACHABLE if error.code == CONNECTION_CLOSED else Fate.UNANSWERED
        return error_reply(f"{name} failed: {self.secrets.hide(error.message)[:ERROR_CHARS]}", fate)

    async def live(self) -> None:
        """Open the connection, list the tools, and close it when the session is over."""
        async with AsyncExitStack() as stack:
            stack.enter_context(mask_library_logs(self.secrets.hide))
            async with asyncio.timeout(START_SECONDS):
                self._client = await stack.enter_async_context(Client(self._transport(self)))
                self.listed = await _listed(self._client, self.secrets)
            self.ready.set()
            await self.over.wait()


Transport = Callable[[McpSession], AbstractAsyncContextManager[Any]]


def transport_of(
    spec: ToolServerSpec, folder: Path, environment: Mapping[str, str], secrets: ServerSecrets
) -> Transport:
    """The transport to a server, with every `${NAME}` filled in."""
    if spec.url is not None:
        url = secrets.fill_url(spec.url, key="url")
        headers = {name: secrets.fill(value, key="headers", name=name) for name, value in spec.headers.items()}
        return lambda session: _http(url, headers, session)
    assert spec.command is not None
    command = [sys.executable if spec.command in ("python", "python3") else spec.command]
    command += [secrets.fill(arg, key="args") for arg in spec.args]
    given = {each: environment[each] for each in INHERITED if each in environment}
    given |= {name: secrets.fill(value, key="env", name=name) for name, value in spec.env.items()}
    return lambda session: _stdio(command, folder, given, session)


@asynccontextmanager
async def _http(url: str, headers: dict[str, str], session: McpSession) -> AsyncGenerator[Any]:
    session.is_remote = True
    limits = httpx2.Timeout(START_SECONDS, read=None)  # how long a call may take is not the transport's to say
    async with (
        bounded_client(streams=False, headers=headers, timeout=limits) as web,
        streamable_http_client(url, http_client=web, max_sse_event_size=LINE_BYTES) as streams,
    ):
        yield streams


@asynccontextmanager
async def _stdio(
    command: list[str], folder: Path, environment: dict[str, str], session: McpSession
) -> AsyncGenerator[Any]:
    """A stdio transport of our own: the library's has no limit on a line, and drops an answer that is not quite
    JSON-RPC.
    """
    program = await Program.start(command, folder=folder, environment=environment)
    to_us, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_send, from_us = anyio.create_memory_object_stream[SessionMessage](0)

    async def listen() -> None:
        async with to_us:
            async for line in program.lines():
                await to_us.send(_message_in(line, session))
            session.fault = program.fault
            session.is_closed, session.last_words = True, last_words(session.secrets.hide(program.last_words))

    async def speak() -> None:
        async for message in from_us:
            await program.send(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")

    tasks = [asyncio.create_task(listen()), asyncio.create_task(speak())]
    try:
        yield received, to_send
    finally:
        await program.end()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _message_in(line: bytes, session: McpSession) -> SessionMessage | Exception:
    """A line as a message. One that is not quite JSON-RPC but names the call it answers is that call's error."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:
        session.noise = session.secrets.hide(line[:NOISE_BYTES].decode("utf-8", "replace"))[:200].strip()
        broken = parse_json_or_call_id(line)
    with suppress(ValueError):
        return SessionMessage(jsonrpc_message_adapter.validate_python(broken, by_name=False))
    if not isinstance(broken, dict) or "method" in broken or not isinstance(broken.get("id"), int | str):
        return ValueError(session.noise)
    words = ErrorData(code=PARSE_ERROR, message=f"its answer is not MCP: {session.noise!r}")
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=broken["id"], error=words))


async def _listed(client: Client, secrets: ServerSecrets) -> dict[str, Listed]:
    """All its tools, page by page. Raises ValueError for a list that cannot be relied on."""
    found: dict[str, Listed] = {}
    cursor: str | None = None
    cursors: set[str | None] = set()
    size = 0
    while cursor not in cursors and len(cursors) < LIST_PAGES:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            if tool.name in found:
                raise ValueError(f"it lists two tools called {tool.name!r}")
            if (size := size + len(tool.model_dump_json())) > LINE_BYTES:
                raise ValueError(f"its list of tools is longer than {LINE_BYTES:,} bytes")
            found[tool.name] = _as_listed(tool, secrets)
        if page.next_cursor is None:
            return found
        cursors.add(cursor)
        cursor = page.next_cursor
    raise ValueError(f"its list of tools has no end: after {len(found):,} of them it goes on at {cursor!r:.100}")


def _as_listed(tool: Any, secrets: ServerSecrets) -> Listed:
    hints = tool.annotations
    reads = bool(hints and hints.read_only_hint and not hints.destructive_hint)
    if secrets.hide(tool.name) != tool.name:
        raise ValueError(f"the name of its tool {tool.name!r} holds a secret it was given")
    description = secrets.hide(tool.description or tool.title or tool.name)
    return Listed(tool.name, description, secrets.hide_in(tool.input_schema), reads)


def _open_map(meta: dict[str, object]) -> Any:
    """`meta` as the library's type for `_meta`, which names only its own keys though the protocol allows any."""
    return meta or None


def _block(block: Any) -> str:
    """A content block as text; a block that is no text becomes a note that it was left out."""
    match block:
        case TextContent():
            return block.text
        case EmbeddedResource(resource=TextResourceContents() as resource):
            return resource.text
        case EmbeddedResource(resource=resource):
            return _left_out("resource", resource.uri, resource.mime_type)
        case ResourceLink():
            return f"[a link to {block.uri}, which was not opened: {block.description or block.title or block.name}]"
        case _:
            return _left_out(block.type, getattr(block, "mime_type", None))


def _left_out(kind: str, *details: object) -> str:
    of = "".join(f", {each}" for each in details if each)
    return f"[{kind}{of}, left out: rows read text only]"

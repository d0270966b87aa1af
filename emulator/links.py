"""Connections to MCP servers over streamable HTTP. Imported only when needed, because `mcp` is heavy."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

PATIENCE_SECONDS = 30.0

Address = tuple[str, str | None]
"""Where a server is, and the token it wants."""


class Link:
    """One server. It is held by a task of its own, because a connection that breaks cancels whoever opened it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._listed, self._closing = asyncio.Event(), asyncio.Event()
        self._client: Client | None = None
        self.tools: list[dict[str, Any]] = []
        self._holder = asyncio.create_task(self._hold())

    async def opened(self) -> bool:
        """Whether the server could be reached and told its tools."""
        listed = asyncio.create_task(self._listed.wait())
        await asyncio.wait({listed, self._holder}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        listed.cancel()
        return self._listed.is_set()

    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
        """What a tool says, and whether that is an error. A server that is gone is one."""
        assert self._client
        asking = asyncio.create_task(self._client.call_tool(name, arguments))
        await asyncio.wait({asking, self._holder}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            asking.cancel()
            return "Connection error while communicating with MCP server.", True
        if asking.cancelled() or (problem := asking.exception()):
            reason = "cancelled" if asking.cancelled() else str(problem)
            return f"Connection error while communicating with MCP server: {reason}", True
        said = asking.result()
        text = "\n".join(block.text for block in said.content if block.type == "text")
        return text, bool(said.is_error)

    async def close(self) -> None:
        self._closing.set()
        await asyncio.wait({self._holder}, timeout=PATIENCE_SECONDS)
        self._holder.cancel()
        # What it died of was told to those who called; asked for here, it is not reported once more at exit.
        await asyncio.gather(self._holder, return_exceptions=True)

    async def _hold(self) -> None:
        url, token = self._address
        headers = {"authorization": f"Bearer {token}"} if token else {}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            page = await client.list_tools()
            found = list(page.tools)
            while page.next_cursor:
                page = await client.list_tools(cursor=page.next_cursor)
                found += page.tools
            self.tools = [
                {"name": tool.name, "description": tool.description or "", "input_schema": tool.input_schema}
                for tool in found
            ]
            self._client = client
            self._listed.set()
            await self._closing.wait()


@asynccontextmanager
async def linked(addresses: Collection[Address]) -> AsyncIterator[dict[Address, Link]]:
    """Yield links to those of these servers that can be reached."""
    links = {address: Link(address) for address in addresses}
    try:
        opened = [(address, link, await link.opened()) for address, link in links.items()]
        yield {address: link for address, link, is_open in opened if is_open}
    finally:
        for link in links.values():
            await link.close()

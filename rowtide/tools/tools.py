"""The tool pool of a job: which tools its rows may call, and the outcome of each call.

Whatever a server does, a call ends in an outcome the model can read; the row is never lost.
"""

from __future__ import annotations  # a server's types: `mcp` is imported when there is a server

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.job_spec import ToolServerSpec
from rowtide.job.wire_names import plain_name_of_wire, server_of_wire_name
from rowtide.tools import tool_servers
from rowtide.tools.stubs import Stub, load_stub
from rowtide.tools.tool_rules import Listed, Offer, Tool, check_distinct_names, cut_output, offered_tools
from rowtide.tracing import span

# Servers of any make know a call made twice by this; the second name is for those that look for the plain word.
KEY_NAMES = ("io.rowtide/idempotencyKey", "idempotencyKey")
NAME_CHARS = 300  # of a tool nobody has: the model's own words


class ToolOutcome(NamedTuple):
    """The outcome of a call; an error is text for the model."""

    tool: str
    text: str
    is_error: bool
    seconds: float


class ToolPool:
    """The tool servers of a job, open while its `async with` lasts."""

    def __init__(
        self, specs: Mapping[str, ToolServerSpec], folder: Path, environment: Mapping[str, str], output_chars: int
    ) -> None:
        # The API itself calls what stands behind a connector.
        self._local = {name: spec for name, spec in specs.items() if spec.placement == "local"}
        self._servers = {name: _server(name, spec, folder, environment) for name, spec in self._local.items()}
        self._offers: dict[str, dict[str, Offer]] = {}
        self._output_chars = output_chars

    async def __aenter__(self) -> ToolPool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End every server's sessions."""
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    @property
    def is_unhealthy(self) -> bool:
        """Whether a server has died, or did not answer when it was last called."""
        return any(server.is_unhealthy for server in self._servers.values())

    async def catalogue(self) -> list[Tool]:
        """Every tool a row may call, in a fixed order. Raises UserMistake for a server that does not start."""
        offered = await asyncio.gather(*(self._offered(name, is_patient=False) for name in self._servers))
        tools = [offer.tool for server in offered for offer in server.values() if offer.is_allowed]
        check_distinct_names(tools)
        return tools

    async def call_all(self, calls: Sequence[tuple[str, dict[str, object]]]) -> list[ToolOutcome]:
        """Make read-only calls (name, arguments), concurrently up to each server's limit. Outcomes are in the order of
        `calls`.
        """
        outcomes: dict[int, ToolOutcome] = {}
        by_server: dict[str | None, list[int]] = defaultdict(list)
        for number, (wire_name, _) in enumerate(calls):
            by_server[server_of_wire_name(wire_name, self._local)].append(number)

        async def make(left: Iterator[int]) -> None:
            for number in left:
                outcomes[number] = await self.call(*calls[number])

        # A few that take one call after another, instead of a task for each call that waits for its place.
        makers: list[Coroutine[None, None, None]] = []
        for server, numbers in by_server.items():
            left, at_once = iter(numbers), self._local[server].concurrency if server else 1
            makers += [make(left) for _ in range(min(at_once, len(numbers)))]
        await asyncio.gather(*makers)
        return [outcomes[number] for number in range(len(calls))]

    async def call(
        self, wire_name: str, arguments: dict[str, object], *, idempotency_key: str | None = None
    ) -> ToolOutcome:
        """Call a tool by its wire name. Never raises for a fault of the server."""
        if (server := server_of_wire_name(wire_name, self._local)) is None:
            return self._outcome(wire_name, f"There is no tool {wire_name!r}.")
        try:
            offered = await self._offered(server, is_patient=True)
        except UserMistake as mistake:
            return self._outcome(wire_name, f"The tool server {server!r} cannot be used now: {mistake.what}")
        if (offer := offered.get(wire_name)) is None:
            near = nearest_name(wire_name, [each for each in offered if offered[each].is_allowed])
            hint = f" Did you mean {near!r}?" if near else ""
            return self._outcome(wire_name, f"There is no tool {wire_name!r}.{hint}")
        if refusal := _refusal(offer, arguments):
            return self._outcome(wire_name, refusal, offer.tool.name)
        meta: dict[str, object] = dict.fromkeys(KEY_NAMES, idempotency_key) if idempotency_key else {}
        reads = not offer.tool.may_write
        with span(f"execute_tool {offer.tool.name}", **_as_traced(offer.tool.name)) as made:
            result = await self._servers[server].call(offer.listed.name, arguments, meta, may_repeat=reads)
            is_error = result.is_error or offer.tool.says_error(result.text)
            if made and is_error:
                made.set_attribute("error.type", "tool_error")
        return ToolOutcome(offer.tool.name, cut_output(result.text, self._output_chars), is_error, result.seconds)

    async def _offered(self, name: str, *, is_patient: bool) -> dict[str, Offer]:
        if name not in self._offers:
            listed = await self._servers[name].listed(is_patient=is_patient)
            self._offers[name] = offered_tools(name, self._local[name], listed)
        return self._offers[name]

    def _outcome(self, wire_name: str, error: str, name: str | None = None) -> ToolOutcome:
        tool = name or cut_output(plain_name_of_wire(wire_name, self._local), NAME_CHARS)
        return ToolOutcome(tool, cut_output(error, self._output_chars), True, 0.0)


class _Server(Protocol):
    async def listed(self, *, is_patient: bool = True) -> dict[str, Listed]: ...
    async def call(
        self, tool: str, arguments: dict[str, object], meta: dict[str, object], *, may_repeat: bool
    ) -> tool_servers.CallResult: ...
    async def stop(self) -> None: ...
    @property
    def is_unhealthy(self) -> bool: ...


class _StubServer:
    """A stub with the interface of a server."""

    is_unhealthy = False

    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    async def listed(self, *, is_patient: bool = True) -> dict[str, Listed]:
        return self._stub.listed()

    async def call(
        self, tool: str, arguments: dict[str, object], meta: dict[str, object], *, may_repeat: bool
    ) -> tool_servers.CallResult:
        return tool_servers.CallResult(*self._stub.answer(tool, arguments))

    async def stop(self) -> None:
        """Does nothing: no process was started."""


def _server(name: str, spec: ToolServerSpec, folder: Path, environment: Mapping[str, str]) -> _Server:
    assert spec.capability is None, f"tools.{name}: a capability is made concrete by rowtide.tools.server_lookup first"
    if spec.stub is not None:
        return _StubServer(load_stub(folder / spec.stub))
    return tool_servers.ToolServer(name, spec, folder, environment)


def _as_traced(tool: str) -> dict[str, str]:
    """Span attributes by OpenTelemetry's conventions for generative AI; without arguments, which may be private."""
    return {"gen_ai__operation__name": "execute_tool", "gen_ai__tool__name": tool}


def _refusal(offer: Offer, arguments: dict[str, object]) -> str:
    """Why a call is refused before it is made; empty when it is allowed."""
    tool = offer.tool.name
    if not offer.is_allowed:
        return f"{tool} changes something, and this job does not allow it."
    if misfits := offer.misfits(arguments):
        return f"{tool} was not called, for its arguments do not fit. {'; '.join(misfits)}."
    return ""

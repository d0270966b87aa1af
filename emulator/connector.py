"""The MCP connector: answer requests whose tools are on servers that the API calls itself.

One request, one reply: in it the mind's calls, what the servers said to them, and then its answer. Each step is a
sampling of its own, which reads all that was said before it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from emulator.conversation import blocks
from emulator.habits import AS_EVER, Temper
from emulator.identifiers import derived_id
from emulator.minds import Thought, think
from emulator.problems import Problem, invalid
from emulator.reading import server_tool
from emulator.toolset_rules import is_enabled, is_toolset

if TYPE_CHECKING:
    from emulator.links import Address, Link

MOST_ROUNDS = 10
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Talk:
    """A request to be answered with its servers' help. `identity` makes the ids of its calls."""

    params: dict[str, Any]
    tier: str
    identity: str
    temper: Temper = AS_EVER


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The tools a mind sees, and where those of servers are: by the name it sees, the server, its link and the tool."""

    tools: list[dict[str, Any]]
    places: Mapping[str, tuple[str, "Link", str]]


def converse(talk: Talk) -> Thought:
    """Return the reply to one request. Raises Problem."""
    heard: list[Thought | Problem] = []
    converse_all([talk], lambda _, outcome: heard.append(outcome))
    if isinstance(heard[0], Problem):
        raise heard[0]
    return heard[0]


def converse_all(talks: Sequence[Talk], tell: Callable[[Talk, Thought | Problem], None]) -> None:
    """Work out several replies, some at once over the same connections; pass each on as soon as it is there."""
    asyncio.run(_all(talks, tell))


async def _all(talks: Sequence[Talk], tell: Callable[[Talk, Thought | Problem], None]) -> None:
    # Not imported at the top: only who connects pays for the import.
    linked = import_module("emulator.links").linked
    addresses = {_address(server) for talk in talks for server in talk.params["mcp_servers"]}
    room = asyncio.Semaphore(AT_ONCE)
    async with linked(addresses) as links:

        async def one(talk: Talk) -> None:
            async with room:
                tell(talk, await _converse(talk, links))

        await asyncio.gather(*(one(talk) for talk in talks))


def _address(server: Mapping[str, Any]) -> "Address":
    return server["url"], server.get("authorization_token")


async def _converse(talk: Talk, links: Mapping["Address", "Link"]) -> Thought | Problem:
    for server in talk.params["mcp_servers"]:
        if _address(server) not in links:
            return invalid(f"Connection error while communicating with MCP server '{server['name']}'.")
    catalogue = _catalogue(talk.params, links)
    said: list[dict[str, Any]] = []
    prompts: list[dict[str, Any]] = []
    thinking = 0
    while True:
        prompt = _prompt(talk.params, catalogue, said)
        thought = think(prompt, talk.tier, talk.temper)
        thinking += thought.thinking
        asked = [_placed(block, catalogue) for block in thought.content]
        calls = [block for block in asked if block["type"] == "mcp_tool_use"]
        if calls and len(prompts) == MOST_ROUNDS:
            return Thought(said, "pause_turn", prompts=prompts, thinking=thinking)
        prompts.append(prompt)
        rest = [block for block in asked if block["type"] != "mcp_tool_use"]
        for call in calls:
            said += await _exchange(call, f"{talk.identity}/{len(said)}", catalogue)
        if rest or not calls:
            return replace(thought, content=[*said, *rest], prompts=prompts, thinking=thinking)


def _catalogue(params: dict[str, Any], links: Mapping["Address", "Link"]) -> Catalogue:
    servers = {server["name"]: links[_address(server)] for server in params["mcp_servers"]}
    tools: list[dict[str, Any]] = []
    places: dict[str, tuple[str, Link, str]] = {}
    for tool in params.get("tools") or ():
        if not is_toolset(tool):
            tools.append(tool)
            continue
        server = tool["mcp_server_name"]
        link = servers[server]
        for listed in tool.get("tools") or link.tools:
            if is_enabled(tool, listed["name"]):
                seen = server_tool(server, listed["name"])
                places[seen] = (server, link, listed["name"])
                tools.append({**listed, "name": seen})
    return Catalogue(tools, places)


def _prompt(params: dict[str, Any], catalogue: Catalogue, said: list[dict[str, Any]]) -> dict[str, Any]:
    """What the mind reads in this step: what it said in earlier ones is the end of the conversation."""
    messages, choice = list(params["messages"]), params.get("tool_choice")
    if said:
        before = blocks(messages.pop()) if messages[-1]["role"] == "assistant" else []
        messages.append({"role": "assistant", "content": [*before, *said]})
        # A call that was forced has been made.
        choice = choice and {**choice, "type": "none" if choice["type"] == "none" else "auto"}
    prompt = params | {"tools": catalogue.tools, "messages": messages}
    return prompt | {"tool_choice": choice} if choice else prompt


def _placed(block: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """A call of a server's tool as what it is. Who was talked into a call may not have said whose the tool is."""
    if block["type"] != "tool_use":
        return block
    place = catalogue.places.get(block["name"])
    if place is None and all(tool["name"] != block["name"] for tool in catalogue.tools):
        place = next((each for each in catalogue.places.values() if each[2] == block["name"]), None)
    if place is None:
        return block
    server, _, name = place
    return {"type": "mcp_tool_use", "name": name, "server_name": server, "input": block["input"]}


async def _exchange(call: dict[str, Any], identity: str, catalogue: Catalogue) -> list[dict[str, Any]]:
    """A call with its id, and the server's reply to it."""
    call_id = derived_id("mcptoolu", identity)
    _, link, name = catalogue.places[server_tool(call["server_name"], call["name"])]
    text, is_error = await link.call(name, call["input"])
    content = [{"type": "text", "text": text}] if text else []
    result = {"type": "mcp_tool_result", "tool_use_id": call_id, "is_error": is_error, "content": content}
    return [{"type": "mcp_tool_use", "id": call_id, **call}, result]

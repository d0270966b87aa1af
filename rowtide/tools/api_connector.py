"""The API's MCP connector: how a request names its servers and tools, and the calls found in a reply.

Source: platform.claude.com, MCP connector, beta `mcp-client-2025-11-20`; public HTTPS servers only. A token is written
as `${NAME}` wherever it is kept, and filled in only in the body that goes out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from rowtide.job.job_spec import ToolServerSpec
from rowtide.json_bytes import dump_json
from rowtide.tools.server_secrets import ServerSecrets

BETA = "mcp-client-2025-11-20"


@dataclass(frozen=True, slots=True)
class ConnectorCall:
    """One call that the API made for a row, and its result."""

    call_id: str
    tool: str
    arguments: bytes
    output: str
    is_error: bool


def connector_servers(specs: Mapping[str, ToolServerSpec]) -> list[dict[str, object]]:
    """The `mcp_servers` of a request: the servers that the API is to call."""
    return [_server(name, spec) for name, spec in specs.items() if spec.placement == "connector"]


def connector_toolsets(specs: Mapping[str, ToolServerSpec]) -> list[dict[str, object]]:
    """The toolsets of these servers, for a request's `tools`: all tools of a server, or only those the job names."""
    return [_toolset(name, spec) for name, spec in specs.items() if spec.placement == "connector"]


def fill_in_tokens(shared: bytes, environment: Mapping[str, str]) -> bytes:
    """The shared part of a request with the servers' tokens filled in; nothing else changes. Raises UserMistake for an
    unset variable.
    """
    found = orjson.loads(b"{%b}" % shared)
    for server in found["mcp_servers"]:
        secrets = ServerSecrets(f"tools.{server['name']}", environment)
        server |= {key: secrets.fill(server[key], key=key) for key in ("url", "authorization_token") if key in server}
    return orjson.dumps(found)[1:-1]


def connector_calls(blocks: Sequence[Mapping[str, Any]]) -> Iterator[ConnectorCall]:
    """The calls that the API made in the course of a reply."""
    results = {block["tool_use_id"]: block for block in blocks if block.get("type") == "mcp_tool_result"}
    for block in blocks:
        if block.get("type") == "mcp_tool_use":
            result = results.get(block["id"], {})
            yield ConnectorCall(
                call_id=str(block["id"]),
                tool=f"{block['server_name']}.{block['name']}",
                arguments=dump_json(block["input"], orjson.OPT_SORT_KEYS),
                output=_text(result.get("content", "")),
                is_error=bool(result.get("is_error", not result)),
            )


def _server(name: str, spec: ToolServerSpec) -> dict[str, object]:
    entry: dict[str, object] = {"type": "url", "name": name, "url": spec.url}
    token = {key.lower(): value for key, value in spec.headers.items()}.get("authorization")
    return entry | ({"authorization_token": token.removeprefix("Bearer ")} if token else {})


def _toolset(name: str, spec: ToolServerSpec) -> dict[str, object]:
    entry: dict[str, object] = {"type": "mcp_toolset", "mcp_server_name": name}
    if spec.tools is None:
        return entry
    chosen = {tool: {"enabled": True} for tool in sorted(spec.tools)}
    return entry | {"default_config": {"enabled": False}, "configs": chosen}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text", f"[{block.get('type')}]")) for block in content)

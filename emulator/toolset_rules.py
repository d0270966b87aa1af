"""Validate the MCP connector's `mcp_servers` and toolsets as the API does."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from emulator.problems import invalid

BETAS = frozenset({"mcp-client-2025-11-20", "mcp-client-2026-09-15"})
SERVER_FIELDS = {"type", "name", "url", "authorization_token"}
TOOLSET_FIELDS = {"type", "mcp_server_name", "default_config", "configs", "cache_control", "tools"}
CONFIG_FIELDS = {"enabled", "defer_loading"}
# The real API takes https only. These let a test run its own server.
AT_HOME = ("localhost", "127.0.0.1")


def may_connect(betas: Collection[str]) -> bool:
    return not BETAS.isdisjoint(betas)


def check_connector(params: dict[str, Any]) -> None:
    """Check a request's servers, and that each has its one toolset. The toolsets by themselves are checked before."""
    servers = params.get("mcp_servers") or []
    if not isinstance(servers, list):
        raise invalid("mcp_servers: Input should be a valid list")
    for at, server in enumerate(servers):
        if problem := _server_problem(server):
            raise invalid(f"mcp_servers.{at}{problem}")
    names = [server["name"] for server in servers]
    if len(set(names)) != len(names):
        raise invalid("mcp_servers: MCP server names must be unique.")
    tools = params.get("tools") or []
    used = Counter(tool["mcp_server_name"] for tool in tools if is_toolset(tool))
    for name in used:
        if name not in names:
            raise invalid(f"tools: MCP server '{name}' not found in mcp_servers")
    for name in names:
        if used[name] != 1:
            raise invalid(f"mcp_servers: MCP server '{name}' must be referenced by exactly one mcp_toolset in tools")


def is_toolset(tool: object) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "mcp_toolset"


def toolset_problem(tool: Mapping[str, Any]) -> str | None:
    for field in tool:
        if field not in TOOLSET_FIELDS:
            return f".{field}: Extra inputs are not permitted"
    if not isinstance(tool.get("mcp_server_name"), str):
        return ".mcp_server_name: Field required"
    configs = tool.get("configs") or {}
    if not isinstance(configs, dict):
        return ".configs: Input should be an object"
    for name, config in {"default_config": tool.get("default_config") or {}, **configs}.items():
        if not isinstance(config, dict) or not config.keys() <= CONFIG_FIELDS:
            return f".{name}: Input should be an object with enabled and defer_loading"
    return None


def is_enabled(toolset: Mapping[str, Any], name: str) -> bool:
    """Return whether a toolset lets this tool be called: its own config decides, else the default, else yes."""
    config = (toolset.get("default_config") or {}) | ((toolset.get("configs") or {}).get(name) or {})
    return config.get("enabled") is not False


def _server_problem(server: object) -> str | None:
    if not isinstance(server, dict):
        return ": Input should be an object"
    for field in server:
        if field not in SERVER_FIELDS:
            return f".{field}: Extra inputs are not permitted"
    if server.get("type") != "url":
        return ".type: Input should be 'url'"
    for field in ("name", "url"):
        if not isinstance(server.get(field), str) or not server[field]:
            return f".{field}: Field required"
    address = urlsplit(server["url"])
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in AT_HOME):
        return ".url: URL must use the https scheme"
    return None

"""An MCP server that does whatever a test wants of it."""

import os
import threading

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

server = MCPServer("fickle")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@server.tool()
def crash() -> str:
    """Die at once."""
    os._exit(3)


@server.tool()
def hang() -> str:
    """Answer far too late."""
    threading.Event().wait()
    return "late"


@server.tool()
def refuse() -> str:
    """Say no."""
    raise ToolError("Not today; try tomorrow.")


@server.tool()
def talk() -> str:
    """Say too much."""
    return "word " * 10_000


if __name__ == "__main__":
    server.run()

"""An MCP server that does whatever a test wants of it."""

import os
import threading

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

READS = ToolAnnotations(read_only_hint=True)
server = MCPServer("fickle")


@server.tool(annotations=READS)
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@server.tool(annotations=ToolAnnotations(destructive_hint=True))
def crash() -> str:
    """Die at once."""
    os._exit(3)


@server.tool(annotations=READS)
def hang() -> str:
    """Answer far too late."""
    threading.Event().wait()
    return "late"


@server.tool(annotations=READS)
def refuse() -> str:
    """Say no."""
    raise ToolError("Not today; try tomorrow.")


@server.tool(annotations=READS)
def talk() -> str:
    """Say too much."""
    return "word " * 10_000


@server.tool()
def pay(amount: int, context: Context) -> dict[str, object]:
    """Pay somebody. Says nothing of whether it only reads."""
    return {"paid": amount, "key": dict(context.request_context.meta or {}).get("io.rowtide/idempotencyKey")}


@server.tool(annotations=ToolAnnotations(read_only_hint=True, destructive_hint=True))
def contradict() -> str:
    """Claim to read only, and to destroy."""
    return "done"


if __name__ == "__main__":
    server.run()

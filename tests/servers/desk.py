"""A help desk: looking an order up changes nothing, a ticket and a refund do. Every call is a line in $DESK_LOG."""

import json
import os
import threading
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations

server = MCPServer("desk")
LOG = Path(os.environ["DESK_LOG"])


def log(tool: str, context: Context[Any, Any]) -> None:
    meta = context.request_context.meta or {}
    line = json.dumps({"tool": tool, "key": dict(meta).get("io.rowtide/idempotencyKey")})
    with LOG.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def find_order(order: str, context: Context[Any, Any]) -> dict[str, str]:
    """Look an order up by its number."""
    log("find_order", context)
    return {"order": order, "desk": f"desk {order[-1]}"}


@server.tool()
def open_ticket(message: str, context: Context[Any, Any]) -> dict[str, str]:
    """Open a ticket for a message."""
    log("open_ticket", context)
    if LOG.with_suffix(".hang").exists():
        threading.Event().wait(120)  # longer than its test, and no orphan of a killed client stays for good
    return {"ticket": f"T-{len(message)}"}


if __name__ == "__main__":
    server.run("stdio")

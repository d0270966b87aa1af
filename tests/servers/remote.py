"""An MCP server over streamable HTTP, which only listens to those who know its word.

remote.py PORT WORD     (port 0: any; the port is the first line it prints)
"""

import socket
import sys
import threading

import uvicorn
from mcp.server import MCPServer
from mcp_types import ToolAnnotations
from starlette.responses import PlainTextResponse

server = MCPServer("remote")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def find_price(item: str) -> dict[str, int]:
    """Find the price of an item."""
    return {"price": 100 + len(item)}


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def hang() -> str:
    """Answer far too late."""
    threading.Event().wait(60)
    return "late"


def guarded(app, word: str):
    async def call(scope, receive, send):
        said = dict(scope.get("headers") or {}).get(b"authorization")
        if scope["type"] == "http" and said != f"Bearer {word}".encode():
            await PlainTextResponse(f"{said} is not the word", 401)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return call


def main(port: int, word: str) -> None:
    listening = socket.create_server(("127.0.0.1", port))
    print(listening.getsockname()[1], flush=True)  # noqa: T201 # its caller reads it
    app = guarded(server.streamable_http_app(), word)
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

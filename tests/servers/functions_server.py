"""The same functions behind an MCP server, for whoever wants to see that rows cannot tell."""

import functions
from mcp.server import MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("functions")
for each in ("add", "slow_add", "find", "again", "nothing", "crash", "hang"):
    server.tool(annotations=ToolAnnotations(read_only_hint=True))(getattr(functions, each))

if __name__ == "__main__":
    server.run()

"""An MCP server of the package `mcp`, by both of its transports."""

import os

from mcp.server.mcpserver import MCPServer

server = MCPServer("count")


@server.tool()
def worker() -> int:
    """Name the process."""
    return os.getpid()


streamable = server.streamable_http_app()
sse = server.sse_app()

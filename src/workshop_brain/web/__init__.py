"""HTTP and WebSocket API, sign-in, the read-only MCP server and the built screens."""

"""A real MCP server for the tests: `python -m tests.tools.mcp.serving stdio`, or `http PORT`.

OFFER names a file with the description of `add`, so that a test can change what the server offers when it starts again.
"""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import anyio
from mcp import types
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import CallToolResult, ImageContent, TextContent

server = MCPServer("demo", log_level="CRITICAL")


def add(a: int, b: int) -> int:
    return a + b


def offer(description: str) -> None:
    server.add_tool(add, description=description)


@server.tool()
async def wait(seconds: float, note: str = "") -> str:
    """Wait, and write to the file `note` if the wait is cancelled."""
    try:
        await anyio.sleep(seconds)
    except BaseException:
        if note:
            with open(note, "w") as file:  # noqa: ASYNC230  # a cancelled task cannot wait
                file.write("cancelled")
        raise
    return "waited"


@server.tool()
def environment() -> str:
    """Tell which variables the server sees."""
    return " ".join(sorted(os.environ))


@server.tool()
def authorization(context: Context) -> str:
    """Tell how the client says who it is."""
    return (context.headers or {}).get("authorization", "nobody")


@server.tool()
def pid() -> str:
    """Tell the number of the server's process."""
    return str(os.getpid())


@server.tool()
def die() -> str:
    """Die at once."""
    os._exit(9)


@server.tool()
def fail() -> CallToolResult:
    """Fail as tools do."""
    return CallToolResult(content=[TextContent(text="no such file")], is_error=True)


@server.tool()
def show(kind: str) -> CallToolResult:
    """Give content of some kind."""
    data = b64encode(b"12345").decode()
    blocks: dict[str, list[Any]] = {
        "mixed": [TextContent(text="A picture:"), ImageContent(data=data, mime_type="image/png")],
        "audio": [types.AudioContent(data=data, mime_type="audio/wav")],
        "link": [types.ResourceLink(name="x", uri="file:///notes.txt")],
        "text_file": [
            types.EmbeddedResource(resource=types.TextResourceContents(uri="file:///a.txt", text="Hello."))
        ],
        "file": [types.EmbeddedResource(resource=types.BlobResourceContents(uri="file:///b.bin", blob=data))],
        "long": [TextContent(text="x" * 100_000)],
        "nothing": [],
    }
    return CallToolResult(content=blocks[kind])


@server.tool()
async def offer_differently(description: str, context: Context) -> str:
    """Describe `add` in other words from now on, and say so."""
    server.remove_tool("add")
    offer(description)
    await context.notify_tools_changed()  # to who subscribed
    await context.session.send_tool_list_changed()  # to older clients
    return "done"


def main(transport: str, port: str = "0") -> None:
    path = os.environ.get("OFFER", "")
    offer(Path(path).read_text() if path else "Add two numbers.")
    if transport == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])

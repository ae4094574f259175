"""`mcp_tools`: the tools of MCP servers as tools of ours, for as long as a block runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, overload

import anyio

from agentkit.errors import ConfigurationError, ToolDefinitionError, ToolError
from agentkit.messages import Origin, Provenance
from agentkit.tools.base import Tool
from agentkit.tools.mcp.connection import Connection
from agentkit.tools.mcp.content import as_text
from agentkit.tools.mcp.listing import ListedTool, code_arguments_of, digest_of, parameters_of, tool_name
from agentkit.tools.mcp.servers import MCPServer

_CLOSING_SECONDS: Final = 5.0
"""How long servers may take to hear that they are no longer needed; their processes then get their own grace."""


class MCPTools(Sequence[Tool]):
    """The tools of some servers, for `Agent(tools=tools)`.

    `digests` has, by server, what `pin` of its description takes: the same offer, whoever runs the server.
    """

    def __init__(self, tools: Sequence[Tool], digests: Mapping[str, str]) -> None:
        self._tools = tuple(tools)
        self.digests = dict(digests)

    @overload
    def __getitem__(self, index: int) -> Tool: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Tool]: ...

    def __getitem__(self, index: int | slice) -> Tool | Sequence[Tool]:
        return self._tools[index]

    def __len__(self) -> int:
        return len(self._tools)


@asynccontextmanager
async def mcp_tools(*servers: MCPServer) -> AsyncIterator[MCPTools]:
    """Connect to servers and give their tools; at the end of the block the servers that it started are gone.

        async with mcp_tools(MCPStdio(name="files", command=["files-server"])) as tools:
            async with Agent(model, tools=tools) as agent:
                ...

    A tool is named `SERVER__TOOL`. Its description is a stranger's: when the agent starts, it has it judged as
    untrusted, as it does results. A server that dies fails the call and is connected anew by the next one; one that
    describes a tool differently from the first time is not called again.

    Raises:
        ConfigurationError: if two servers have one name, or one cannot be reached or does not offer what its pin says.
        ToolDefinitionError: if a tool's name or schema cannot be used; leave it out by the server's `tools`.
    """
    _check_names(servers)
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            connections = [(server, Connection(server, tasks)) for server in servers]
            try:
                yield await _toolbox(connections)
            finally:
                for _, connection in connections:
                    connection.close()
                tasks.cancel_scope.deadline = anyio.current_time() + _CLOSING_SECONDS
    except BaseExceptionGroup as group:
        failure = group.exceptions[0] if len(group.exceptions) == 1 else group
    if failure is not None:
        raise failure


async def _toolbox(connections: Sequence[tuple[MCPServer, Connection]]) -> MCPTools:
    tools: list[Tool] = []
    digests: dict[str, str] = {}
    for server, connection in connections:
        try:
            offer = await connection.offer()
        except ToolError as error:
            raise ConfigurationError(str(error)) from error
        used = [listed for listed in offer if server.offers(listed.name)]
        digests[server.name] = digest_of(used)
        tools += _tools(server, connection, used)
    return MCPTools(tools, digests)


def _tools(server: MCPServer, connection: Connection, offer: Sequence[ListedTool]) -> Iterator[Tool]:
    for listed in offer:
        try:
            yield _tool(server, connection, listed)
        except ToolDefinitionError as error:
            raise ToolDefinitionError(
                f"MCP server {server.name}, tool {listed.name[:80]!r}: {error}; leave it out with tools=[...]"
            ) from error


def _tool(server: MCPServer, connection: Connection, listed: ListedTool) -> Tool:
    async def call(**arguments: Any) -> str:
        result = await connection.call(listed.name, arguments)
        text = as_text(result)
        if result.is_error:
            raise ToolError(text)
        return text

    parameters = parameters_of(listed)
    return Tool(
        name=tool_name(server.name, listed.name),
        description=listed.description or f"A tool of {server.name} without a description.",
        parameters=parameters,
        function=call,
        effect=server.effect_of(listed.name),
        timeout=server.timeout,
        code_arguments=code_arguments_of(parameters),
        described_by=Provenance(origin=Origin.TOOL, source=server.name),
    )


def _check_names(servers: Sequence[MCPServer]) -> None:
    names = [server.name for server in servers]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two MCP servers are named {name}; their tools could not be told apart")

"""One MCP server: connected when it is needed, again after it died, refused once it changed what it offered.

Knows no agent and no tool of ours.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, assert_never

import anyio
from anyio.abc import TaskGroup

from agentkit.errors import ConfigurationError, ToolError

try:
    import httpx2
    import mcp
    from mcp import Client, MCPError, StdioServerParameters, stdio_client, types
    from mcp.client import Transport
    from mcp.client.streamable_http import streamable_http_client
    from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
except ImportError as exc:
    raise ConfigurationError(
        "tools of MCP servers need the package mcp; pip install 'agentkit[mcp]'"
    ) from exc

from agentkit.tools.mcp.listing import ListedTool, digest_of, list_tools
from agentkit.tools.mcp.servers import MCPHttp, MCPServer, MCPStdio

logger = logging.getLogger(__name__)

_HTTP_TIMEOUT: Final = httpx2.Timeout(10.0, read=300.0)  # a stream of notifications may be silent for long
_LOST: Final = "was lost during the call, which may have taken effect; the next call connects anew"
# The latter is how a server says, among other things, that it has forgotten the session.
_ENDS_THE_CONNECTION: Final = (types.CONNECTION_CLOSED, types.INVALID_REQUEST)
_MAX_MESSAGE_CHARS: Final = 300


def _without_content(record: logging.LogRecord) -> bool:
    if record.pathname.startswith(_PACKAGE):
        record.exc_info = None
    return True


# What the package cannot read, it writes to its logs with the error; that it could not is enough.
_PACKAGE: Final = str(Path(mcp.__file__).parent)
for _logger in ("client", "mcp.client.stdio", "mcp.client.streamable_http"):
    logging.getLogger(_logger).addFilter(_without_content)


class _Link:
    """One connection from its start to its end: `ready` once `client` or `failure` is known, then `over`.

    It is `listening` once what the server changes is heard of, or once it is clear that the server tells of it unasked.
    """

    def __init__(self) -> None:
        self.ready = anyio.Event()
        self.over = anyio.Event()
        self.listening = anyio.Event()
        self.comparing = anyio.Lock()
        self.client: Client | None = None
        self.failure = ""
        self.changed = False

    async def notice(self, message: object) -> None:
        """Take what a server sends of its own accord."""
        if isinstance(message, types.ToolListChangedNotification):
            self.changed = True


class Connection:
    """Connects in tasks of its own, so that a call which is cancelled leaves the server to the others."""

    def __init__(self, server: MCPServer, tasks: TaskGroup) -> None:
        self._server = server
        self._tasks = tasks
        self._link: _Link | None = None
        self._offer: tuple[ListedTool, ...] | None = None
        self._refusal: str | None = None

    async def offer(self) -> tuple[ListedTool, ...]:
        """Return what the server offered when it was first asked: this is what it is held to from then on.

        Raises:
            ToolError: if the server cannot be reached, or does not offer what its pin says.
        """
        await self._approved(await self._connection())
        return self._offer or ()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> types.CallToolResult:
        """Call a tool of the server, connecting to it if it is not connected.

        A call that is cancelled is cancelled on the server too.

        Raises:
            ToolError: if the server cannot be reached, dies, refuses, or no longer offers what it did.
        """
        link = await self._connection()
        try:
            client = await self._approved(link)
            # No timeout of its own: who calls a tool bounds the call.
            return await client.call_tool(name, dict(arguments), read_timeout_seconds=math.inf)
        except MCPError as error:
            if error.code in _ENDS_THE_CONNECTION:
                link.over.set()
            if error.code == types.CONNECTION_CLOSED:
                raise self._failed(_LOST) from error
            raise self._failed(f"refused the call: {error.message[:_MAX_MESSAGE_CHARS]}") from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            link.over.set()
            raise self._failed(_LOST) from error

    def close(self) -> None:
        """Let the connection end; no call is made after that."""
        self._refusal = (
            self._refusal or f"the block of mcp_tools that connected to {self._server.name} has ended"
        )
        if self._link is not None:
            self._link.over.set()

    async def _connection(self) -> _Link:
        """Return the connection that there is, or a new one; ready or failed."""
        link = self._link
        if self._refusal is None and (link is None or link.over.is_set()):
            link = self._link = _Link()
            self._tasks.start_soon(self._hold, link)
        if link is not None:
            await link.ready.wait()
        if self._refusal is not None or link is None:
            raise ToolError(self._refusal or "")
        return link

    async def _approved(self, link: _Link) -> Client:
        """Return the client of a connection, once what the server changed has been compared."""
        if link.client is None:
            raise ToolError(link.failure)
        async with link.comparing:
            while link.changed:
                link.changed = False
                try:
                    self._compare(await list_tools(link.client, self._server.name))
                except BaseException:
                    link.changed = True
                    raise
        return link.client

    async def _hold(self, link: _Link) -> None:
        """Keep a connection until it is over; whatever goes wrong with it is told to who waits for it."""
        seconds = self._server.connect_timeout
        link.failure = str(self._failed(f"did not answer within {seconds:g} seconds"))
        try:
            with anyio.move_on_after(seconds) as starting:
                async with self._connected(link) as client, anyio.create_task_group() as listening:
                    # First of all: what the server changes from now on is heard of.
                    listening.start_soon(self._listen, client, link)
                    await link.listening.wait()
                    self._compare(await list_tools(client, self._server.name))
                    starting.deadline = math.inf
                    link.client = client
                    link.ready.set()
                    await link.over.wait()
                    listening.cancel_scope.cancel()
        except Exception as group:  # noqa: BLE001  # the transports raise whatever broke them, in groups
            error = _first(group)
            if not isinstance(error, ToolError):
                logger.warning(
                    "the connection to MCP server %s ended with %s", self._server.name, type(error).__name__
                )
                error = self._failed(f"could not be reached ({type(error).__name__})")
            link.failure = str(error)
        finally:
            link.over.set()
            link.ready.set()

    @asynccontextmanager
    async def _connected(self, link: _Link) -> AsyncIterator[Client]:
        async with (
            self._transport() as transport,
            # Without a cache of answers: a listing has to be what the server says now.
            # An old server may be silent about what it is asked first: there has to be time for the next question.
            Client(
                transport,
                message_handler=link.notice,
                cache=None,
                read_timeout_seconds=self._server.connect_timeout / 3,
            ) as client,
        ):
            yield client

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[Transport]:
        server = self._server
        match server:
            case MCPStdio():
                command, *arguments = server.command
                yield stdio_client(
                    StdioServerParameters(
                        command=command, args=arguments, env=dict(server.env), cwd=server.cwd
                    ),
                    errlog=sys.__stderr__ or sys.stderr,
                )
            case MCPHttp():
                async with httpx2.AsyncClient(headers=dict(server.headers), timeout=_HTTP_TIMEOUT) as http:
                    yield streamable_http_client(server.url, http_client=http)
            case _:
                assert_never(server)

    async def _listen(self, client: Client, link: _Link) -> None:
        """Hear of changes by a subscription; older servers have none, and send notices or nothing."""
        try:
            async with client.listen(tools_list_changed=True) as changes:
                link.listening.set()
                async for _ in changes:
                    link.changed = True
        except (ListenNotSupportedError, MCPError, TimeoutError):
            link.listening.set()
            return
        except SubscriptionLost:
            link.listening.set()
        link.over.set()

    def _compare(self, now: tuple[ListedTool, ...]) -> None:
        """Hold the server to its first offer; what it adds is not used, what it takes away fails when it is called.

        Raises:
            ToolError: if it describes a tool differently.
        """
        if self._offer is None:
            self._check_pin(now)
            self._offer = now
            return
        digests = {tool.name: tool.digest for tool in now}
        changed = [tool.name for tool in self._offer if digests.get(tool.name, tool.digest) != tool.digest]
        if changed:
            self._refuse(
                f"describes {', '.join(changed)[:_MAX_MESSAGE_CHARS]} differently from when it was approved"
            )

    def _check_pin(self, now: tuple[ListedTool, ...]) -> None:
        pin = self._server.pin
        offered = digest_of(tool for tool in now if self._server.offers(tool.name))
        if pin is not None and pin != offered:
            self._refuse(f"offers tools with the digest {offered}, its pin is {pin[:64]}")

    def _refuse(self, why: str) -> None:
        """Use the server no more.

        Raises:
            ToolError: always.
        """
        until = "none of its tools is called until a person has looked at them"
        self._refusal = f"MCP server {self._server.name} {why}; {until}"
        if self._link is not None:
            self._link.over.set()
        raise ToolError(self._refusal)

    def _failed(self, what: str) -> ToolError:
        return ToolError(f"MCP server {self._server.name} {what}")


def _first(error: BaseException) -> BaseException:
    """Return what went wrong; of a group, what its first member is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

"""A network between a store and its server that breaks where a test wants it to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import anyio
from anyio.abc import SocketAttribute, SocketStream

from tests.postgres_server import PostgresServer

Direction = Literal["to server", "to client"]


class PostgresProxy:
    """Passes bytes on until it is told to break connections."""

    def __init__(self, server: PostgresServer, port: int) -> None:
        self.url = server.url(port=port)
        self.broken = 0
        self._server = server
        self._trap: tuple[Direction, bytes] | None = None
        self._clients: list[SocketStream] = []
        self._open = anyio.Event()
        self._open.set()

    def break_at(self, direction: Direction, text: bytes) -> None:
        """Break the next connection that is about to pass this text on, instead of passing it on."""
        self._trap = (direction, text)

    async def lose_clients(self) -> None:
        """End every connection towards the client; the server is not told."""
        lost, self._clients = self._clients, []
        for client in lost:
            await client.aclose()

    def hold_back(self) -> None:
        """Let no new connection through until `let_through`."""
        self._open = anyio.Event()

    def let_through(self) -> None:
        """Let new connections through, those included that wait."""
        self._open.set()

    async def serve(self, client: SocketStream) -> None:
        """Connect a client with the server until one of them ends."""
        await self._open.wait()
        self._clients.append(client)
        server = await anyio.connect_tcp("127.0.0.1", self._server.port)
        async with client, server, anyio.create_task_group() as group:
            group.start_soon(self._copy, server, client, "to client", group.cancel_scope)
            group.start_soon(self._copy, client, server, "to server", group.cancel_scope)

    async def _copy(
        self, source: SocketStream, target: SocketStream, direction: Direction, connection: anyio.CancelScope
    ) -> None:
        try:
            async for data in source:
                if self._trap is not None and self._trap[0] == direction and self._trap[1] in data:
                    self._trap = None
                    self.broken += 1
                    break
                await target.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            if not {source, target} & set(self._clients):  # the client was lost: the server is not told
                return
        connection.cancel()


@asynccontextmanager
async def proxied(server: PostgresServer) -> AsyncIterator[PostgresProxy]:
    """A proxy before a server, inside the block."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy = PostgresProxy(server, listener.extra(SocketAttribute.local_port))
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, proxy.serve)
        yield proxy
        group.cancel_scope.cancel()

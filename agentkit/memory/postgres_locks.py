"""Who holds which session, over all workers of a database: advisory locks on one connection of a store.

A worker that dies loses its connection, and with it the locks. No clock, no lease.
"""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final

import anyio
import psycopg

from agentkit.memory.postgres_database import Connection, PostgresDatabase
from agentkit.memory.postgres_schema import lock_key
from agentkit.memory.rules import busy

_IDENTITY: Final = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"

_RELEASE_SECONDS: Final = 5.0
"""How long a server may take to let go of one session before it is made to let go of all."""

# The start tells our old backend from another one that has its number by now.
_END_BACKEND: Final = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE (pid, backend_start) = (%s, %s)"
)


class SessionLocks:
    """The sessions that the tasks of one store hold.

    Versions keep a session whole whatever happens here; the locks keep two workers from doing its work twice.
    """

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._held: set[str] = set()
        self._locked: set[str] = set()
        self._connection: Connection | None = None
        self._backend: tuple[int, datetime] | None = None
        self._turn = anyio.Lock()

    @asynccontextmanager
    async def hold(self, session_id: str) -> AsyncIterator[None]:
        """Hold a session inside the block; see `Store.hold`."""
        if session_id in self._held:
            raise busy(session_id)
        self._held.add(session_id)
        try:
            if not await self._database.retried(partial(self._acquire, session_id)):
                raise busy(session_id)
            yield
        finally:
            self._held.remove(session_id)
            await self._release(session_id)

    async def renew(self, session_id: str) -> None:
        """Make sure, before a session is written, that its holder in this store still holds it.

        A connection that broke is opened again and its locks are taken again.

        Raises:
            SessionBusyError: if somebody else was faster.
        """
        if session_id not in self._held:
            return
        async with self._turn:
            await self._connected()
        if session_id not in self._locked:
            raise busy(session_id)

    async def close(self) -> None:
        """Let go of every session."""
        async with self._turn:
            self._locked.clear()
            if self._connection is not None:
                await self._connection.close()

    async def _acquire(self, session_id: str) -> bool:
        with self._database.unbroken():
            async with self._turn:
                connection = await self._connected()
                if await self._try_lock(connection, session_id):
                    self._locked.add(session_id)
        return session_id in self._locked

    async def _release(self, session_id: str) -> None:
        if session_id not in self._locked:
            return
        self._locked.remove(session_id)
        with anyio.CancelScope(shield=True):
            async with self._turn:
                if self._connection is not None and not self._connection.closed:
                    await self._unlock(self._connection, session_id)

    async def _unlock(self, connection: Connection, session_id: str) -> None:
        try:
            with anyio.fail_after(_RELEASE_SECONDS):
                await connection.execute("SELECT pg_advisory_unlock(%s)", (self._key(session_id),))
        except (psycopg.Error, TimeoutError):
            # Without its connection the server lets go of all; the others are taken again by `renew`.
            await connection.close()

    async def _connected(self) -> Connection:
        """Return the connection; where it broke a new one, with every lock that could be taken again."""
        if self._connection is not None and not _is_gone(self._connection):
            return self._connection
        if self._connection is not None:
            await self._connection.close()
        connection = await self._database.open()
        try:
            if self._backend is not None:
                # It may not know yet that its client is gone, and would keep our own locks from us.
                await connection.execute(_END_BACKEND, self._backend)
            row = await (await connection.execute(_IDENTITY)).fetchone()
            again = {name for name in self._locked if await self._try_lock(connection, name)}
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        self._backend = (row[0], row[1]) if row else None
        self._locked &= again
        return connection

    async def _try_lock(self, connection: Connection, session_id: str) -> bool:
        query = "SELECT pg_try_advisory_lock(%s)"
        try:
            return await (await connection.execute(query, (self._key(session_id),))).fetchone() == (True,)
        except BaseException:
            # It may have been given: the server must not keep a lock that nobody knows of.
            await connection.close()
            raise

    def _key(self, session_id: str) -> int:
        return lock_key(self._database.schema, "session", session_id)


def _is_gone(connection: Connection) -> bool:
    """Tell whether the server has ended a connection on which nothing is going on. Waits for nothing."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    try:
        while poll.poll(0):
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return False

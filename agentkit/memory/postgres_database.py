"""One PostgreSQL database: its connections, one transaction at a time on each, tried again while it is away.

Knows that there is a schema, not what its rows mean.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString, TypeVar
from uuid import UUID, uuid4

import anyio
import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.pq import TransactionStatus

from agentkit.errors import ConfigurationError, StoreError
from agentkit.memory.postgres_address import PostgresAddress
from agentkit.memory.postgres_errors import may_pass, reason
from agentkit.memory.postgres_schema import lock_key, prepare

T = TypeVar("T")

Connection = AsyncConnection[tuple[Any, ...]]

_OLDEST_SERVER: Final = 14
_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 1.0

_ANSWER_SECONDS: Final = 2.0
"""How much longer than its statement timeout a server gets before it counts as gone."""

_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

# A worker whose machine vanished must not keep its locks for the two hours of TCP's default. A role for which
# commits do not wait for the disk is no place for sessions.
_SETTINGS: Final = """
SELECT set_config('search_path', %(search_path)s, false), set_config('TimeZone', 'UTC', false),
    set_config('statement_timeout', %(timeout)s, false),
    set_config('idle_in_transaction_session_timeout', %(timeout)s, false),
    set_config('idle_session_timeout', '0', false),
    set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A transaction in progress. A write keeps its `token` when it is tried again, on another connection.

    `again` says that an earlier attempt may have gone through.
    """

    connection: Connection
    schema: str
    token: UUID
    again: bool

    async def execute(
        self, query: LiteralString, values: Sequence[Any] | dict[str, Any] = ()
    ) -> AsyncCursor[tuple[Any, ...]]:
        """Run one statement; its values come back in their binary form, which is quick for bytes."""
        return await self.connection.execute(query, values, binary=True)

    async def lock(self, kind: str, name: str) -> None:
        """Keep other transactions that ask for the same lock waiting until the end of this one."""
        key = lock_key(self.schema, kind, name)
        await self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (key,))


class PostgresDatabase:
    """A database and at most `pool_size` connections to it, opened when they are first needed.

    Raises:
        ConfigurationError: if a number is out of its range.
    """

    def __init__(
        self,
        address: PostgresAddress,
        *,
        schema: str,
        pool_size: int,
        pool_timeout: float,
        reconnect_timeout: float,
        statement_timeout: float,
    ) -> None:
        if pool_size < 1:
            raise ConfigurationError(f"pool_size must be at least 1, got {pool_size!r}")
        _check_seconds(
            pool_timeout=pool_timeout,
            reconnect_timeout=reconnect_timeout,
            statement_timeout=statement_timeout,
        )
        self.name = address.name
        self.schema = schema
        self._address = address
        self._pool_size = pool_size
        self._pool_timeout = pool_timeout
        self._reconnect_timeout = reconnect_timeout
        self._statement_timeout = statement_timeout
        self._slots = anyio.CapacityLimiter(pool_size)
        self._idle: list[Connection] = []
        self._closed = False

    async def read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in a transaction that sees one state of the database and changes nothing.

        Raises:
            StoreError: if the database cannot be read, or is closed.
        """
        return await self._transact(_READ, work)

    async def write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` as one transaction: all of it, or nothing where it raises.

        Where its connection breaks it is run again, and must see by its token whether it went through already.

        Raises:
            StoreError: if the database cannot be written, or is closed.
        """
        return await self._transact(_WRITE, work)

    async def retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Run `attempt` until it works, fails for good, or has failed for as long as a reconnection may take.

        Raises:
            StoreError: if the database fails: its name, and what to do.
        """
        deadline, pause = math.inf, _FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except (psycopg.Error, TimeoutError) as exc:
                deadline = min(deadline, anyio.current_time() + self._reconnect_timeout)
                if not may_pass(exc) or anyio.current_time() >= deadline:
                    why = reason(exc, statement_timeout=self._statement_timeout)
                    raise StoreError(f"{self.name} {why}") from exc
            await anyio.sleep(random.uniform(0, pause))  # noqa: S311  # no secret, only spread
            pause = min(2 * pause, _LAST_PAUSE)

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Let nobody but the clock cancel what happens inside the block; then it ends in a TimeoutError.

        Raises:
            StoreError: if the database is closed.
        """
        if self._closed:
            raise StoreError(f"the store in {self.name} is closed")
        with anyio.fail_after(self._statement_timeout + _ANSWER_SECONDS, shield=True):
            yield

    async def open(self) -> Connection:
        """Return a new connection whose schema is there and up to date; whoever asks closes it.

        Raises:
            psycopg.Error: if there is no way to connect.
            StoreError: if the server is too old, or the schema is too new or another application's.
        """
        connection: Connection = await AsyncConnection.connect(self._address.conninfo, autocommit=True)
        try:
            await self._set_up(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Close what is idle now, and what is in use when its transaction is done."""
        self._closed = True
        await self._close_idle()

    async def _transact(self, begin: LiteralString, work: Callable[[Transaction], Awaitable[T]]) -> T:
        token, attempts = uuid4(), 0

        async def attempt() -> T:
            nonlocal attempts
            attempts += 1
            async with self._pooled() as connection:
                transaction = Transaction(
                    connection=connection, schema=self.schema, token=token, again=attempts > 1
                )
                return await _run(begin, work, transaction)

        return await self.retried(attempt)

    @asynccontextmanager
    async def _pooled(self) -> AsyncIterator[Connection]:
        await self._take_slot()
        try:
            with self.unbroken():
                connection = self._idle.pop() if self._idle else await self.open()
                try:
                    yield connection
                finally:
                    await self._put_back(connection)
        finally:
            self._slots.release()

    async def _take_slot(self) -> None:
        with anyio.move_on_after(self._pool_timeout) as waiting:
            await self._slots.acquire()
        if waiting.cancelled_caught:
            raise StoreError(
                f"{self.name}: all {self._pool_size} connections of this store were in use for "
                f"{self._pool_timeout:g} s; raise pool_size or run fewer sessions at once"
            )

    async def _set_up(self, connection: Connection) -> None:
        check_server_version(connection.info.server_version, name=self.name)
        values = {
            "search_path": f'"{self.schema}", pg_temp',
            "timeout": f"{math.ceil(self._statement_timeout * 1000)}ms",
        }
        await connection.execute(_SETTINGS, values)
        await prepare(connection, schema=self.schema, name=self.name)

    async def _put_back(self, connection: Connection) -> None:
        if connection.closed:
            # What broke it, such as a restart, has most likely broken those that wait as well.
            await self._close_idle()
        elif self._closed:
            await connection.close()
        else:
            self._idle.append(connection)

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().close()


def check_server_version(version: int, *, name: str) -> None:
    """Accept a server that is new enough; 150018 is version 15.18.

    Raises:
        StoreError: otherwise.
    """
    if version < _OLDEST_SERVER * 10_000:
        raise StoreError(
            f"{name} is PostgreSQL {version // 10_000}, agentkit needs {_OLDEST_SERVER} or newer"
        )


async def _run(
    begin: LiteralString, work: Callable[[Transaction], Awaitable[T]], transaction: Transaction
) -> T:
    """Run `work` between a begin and a commit; its connection is left without a transaction, or closed."""
    connection = transaction.connection
    try:
        await connection.execute(begin)
        result = await work(transaction)
        await connection.execute("COMMIT")
    except Exception:
        await _roll_back(connection)
        raise
    except BaseException:
        # The time is up, or the event loop ends: the server undoes what it has not committed.
        await connection.close()
        raise
    return result


async def _roll_back(connection: Connection) -> None:
    if connection.closed or connection.info.transaction_status == TransactionStatus.IDLE:
        return
    try:
        await connection.execute("ROLLBACK")
    except psycopg.Error:
        await connection.close()


def _check_seconds(**settings: float) -> None:
    for name, seconds in settings.items():
        if not 0 < seconds < math.inf:
            raise ConfigurationError(f"{name} must be more than 0 seconds, got {seconds!r}")

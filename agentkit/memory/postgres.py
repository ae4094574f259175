"""Sessions in PostgreSQL, which many workers on many machines may share. Knows when rows change, not their SQL."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

from anyio import CancelScope

from agentkit.errors import ConfigurationError
from agentkit.memory.audit import AuditEvent, AuditRecord
from agentkit.memory.audit_log import SESSION_DELETED
from agentkit.memory.codec import Record, encode_entries
from agentkit.memory.journal import JournalRecord, encode_journal
from agentkit.memory.postgres_address import PostgresAddress
from agentkit.memory.postgres_audit import append_event, read_audit, was_noted
from agentkit.memory.postgres_database import PostgresDatabase, Transaction
from agentkit.memory.postgres_entries import ancestor, grow, prune, read_path
from agentkit.memory.postgres_locks import SessionLocks
from agentkit.memory.postgres_sessions import (
    SessionRow,
    append_journal,
    archive_path,
    clear_journal,
    delete_session,
    find_session,
    find_to_share,
    find_to_write,
    header_from_json,
    header_to_json,
    insert_fork,
    list_sessions,
    make_blank,
    read_archives,
    read_journal,
    update_session,
)
from agentkit.memory.rules import (
    check_fork,
    check_prefix,
    check_session_id,
    check_version,
    forked_entries,
    kept_entries,
)
from agentkit.memory.store import SessionHeader, SessionInfo, StoredSession
from agentkit.memory.transcript import Entry, StoredEntry

T = TypeVar("T")

_SCHEMA_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class PostgresStore:
    """The store in a PostgreSQL database; see `Store`. A commit is on the server's disk when it returns.

    The URL is libpq's, such as `postgresql://user@host:5432/database?sslmode=verify-full`; what it leaves out,
    a password for instance, comes from libpq's environment variables and files. The tables are in `schema`,
    made when the store is first used. A store opens up to `pool_size` connections and one for the locks of the
    sessions it holds; it needs real connections to one server, not those of a pooler that shares them.

    While the server is away an operation is tried again for `reconnect_timeout` seconds. `pool_timeout` is how
    long an operation waits for a connection of its own, `statement_timeout` how long the server may work.

    A deleted session's rows are gone at once; their bytes leave the server's files when it vacuums and reuses
    them, and the write-ahead log and backups when these are recycled.

    Raises:
        ConfigurationError: if the URL is not one of PostgreSQL, or an option is out of its range.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "agentkit",
        pool_size: int = 4,
        pool_timeout: float = 30.0,
        reconnect_timeout: float = 10.0,
        statement_timeout: float = 30.0,
    ) -> None:
        if not _SCHEMA_NAME.fullmatch(schema):
            raise ConfigurationError(
                f"schema must be up to 63 of a-z, 0-9 and _, not begin with a digit, got {schema!r}"
            )
        self._database = PostgresDatabase(
            PostgresAddress.parse(url),
            schema=schema,
            pool_size=pool_size,
            pool_timeout=pool_timeout,
            reconnect_timeout=reconnect_timeout,
            statement_timeout=statement_timeout,
        )
        self._locks = SessionLocks(self._database)

    def __repr__(self) -> str:
        return f"PostgresStore({self._database.name}, schema {self._database.schema!r})"

    def hold(self, session_id: str) -> AbstractAsyncContextManager[None]:
        """See `Store.hold`."""
        check_session_id(session_id)
        return self._locks.hold(session_id)

    async def load(self, session_id: str) -> StoredSession | None:
        """See `Store.load`."""
        check_session_id(session_id)

        async def work(transaction: Transaction) -> StoredSession | None:
            session = await find_session(transaction, session_id)
            if session is None:
                return None
            return StoredSession(
                id=session_id,
                version=session.version,
                header=header_from_json(session.header, session_id=session_id),
                entries=await read_path(
                    transaction, session.head, num_entries=session.entries, session_id=session_id
                ),
                journal=await read_journal(transaction, session),
            )

        return await self._database.read(work)

    async def version(self, session_id: str) -> int:
        """See `Store.version`."""
        check_session_id(session_id)

        async def work(transaction: Transaction) -> int:
            session = await find_session(transaction, session_id)
            return session.version if session else 0

        return await self._database.read(work)

    async def append(
        self,
        session_id: str,
        *,
        expected_version: int,
        header: SessionHeader,
        records: Sequence[JournalRecord],
    ) -> int:
        """See `Store.append`."""
        check_session_id(session_id)
        encoded = encode_journal(records)

        async def work(transaction: Transaction) -> int:
            session = await _current(transaction, session_id, expected_version, header)
            if session.token == transaction.token:
                return session.version
            await append_journal(transaction, session, encoded)
            return await update_session(
                transaction,
                session,
                header=session.header,
                head=session.head,
                entries=session.entries,
                turns=session.turns,
            )

        return await self._write(session_id, work)

    async def commit(
        self,
        session_id: str,
        *,
        expected_version: int,
        header: SessionHeader,
        entries: Sequence[Entry],
        replace_from: int | None = None,
        archive: bool = False,
        event: AuditEvent | None = None,
    ) -> int:
        """See `Store.commit`."""
        check_session_id(session_id)
        records = encode_entries(entries)

        async def work(transaction: Transaction) -> int:
            session = await _current(transaction, session_id, expected_version, header)
            if session.token == transaction.token:
                return session.version
            if archive and session.version:
                await archive_path(transaction, session)
            kept = kept_entries(session_id, session.entries, replace_from=replace_from)
            version = await _replace_tail(transaction, session, header, records, kept=kept)
            await clear_journal(transaction, session)
            if event is not None:
                await append_event(transaction, event, session_id=session_id)
            return version

        return await self._write(session_id, work)

    async def archived(self, session_id: str) -> tuple[tuple[StoredEntry, ...], ...]:
        """See `Store.archived`."""
        check_session_id(session_id)

        async def work(transaction: Transaction) -> tuple[tuple[StoredEntry, ...], ...]:
            session = await find_session(transaction, session_id)
            paths = await read_archives(transaction, session) if session else []
            return tuple(
                [
                    await read_path(transaction, head, num_entries=entries, session_id=session_id)
                    for head, entries in paths
                ]
            )

        return await self._database.read(work)

    async def fork(self, source_id: str, target_id: str, *, num_entries: int | None = None) -> int:
        """See `Store.fork`."""
        check_session_id(source_id)
        check_session_id(target_id)

        async def work(transaction: Transaction) -> int:
            version = None
            while version is None:  # somebody made the target meanwhile: look again
                version = await _fork(transaction, source_id, target_id, num_entries)
            return version

        return await self._write(target_id, work)

    async def list(self, prefix: str = "") -> list[SessionInfo]:
        """See `Store.list`."""
        check_prefix(prefix)
        return await self._database.read(lambda transaction: list_sessions(transaction, prefix))

    async def delete(self, session_id: str, *, expected_version: int | None = None) -> bool:
        """See `Store.delete`."""
        check_session_id(session_id)

        async def work(transaction: Transaction) -> bool:
            session = await find_to_write(transaction, session_id)
            if await was_noted(transaction, session_id=session_id):
                return True
            if expected_version is not None:
                check_version(session_id, session.version if session else 0, expected=expected_version)
            if session is None:
                return False
            heads = await delete_session(transaction, session)
            await _prune(transaction, session, heads)
            await append_event(transaction, SESSION_DELETED, session_id=session_id)
            return True

        return await self._write(session_id, work)

    async def note(self, session_id: str, event: AuditEvent) -> None:
        """See `Store.note`."""
        check_session_id(session_id)
        await self._database.write(
            lambda transaction: append_event(transaction, event, session_id=session_id)
        )

    async def audit(self, tenant: str) -> tuple[AuditRecord, ...]:
        """See `Store.audit`."""
        check_prefix(tenant)
        return await self._database.read(lambda transaction: read_audit(transaction, tenant))

    async def close(self) -> None:
        """See `Store.close`."""
        with CancelScope(shield=True):
            await self._database.close()
            await self._locks.close()

    async def _write(self, session_id: str, work: Callable[[Transaction], Awaitable[T]]) -> T:
        async def as_holder(transaction: Transaction) -> T:
            await self._locks.renew(session_id)
            return await work(transaction)

        return await self._database.write(as_holder)


async def _current(
    transaction: Transaction, session_id: str, expected_version: int, header: SessionHeader
) -> SessionRow:
    """Return a session's row to write, if it has the version expected; where that is 0 a blank one.

    An earlier attempt at this very write may have gone through: then the row has the write's token already.
    """
    while True:
        if expected_version == 0:
            await make_blank(transaction, session_id, header)
        session = await find_to_write(transaction, session_id)
        if session is not None and session.token == transaction.token:
            return session
        check_version(session_id, session.version if session else 0, expected=expected_version)
        if session is not None:  # else somebody deleted it between the two statements
            return session


async def _replace_tail(
    transaction: Transaction,
    session: SessionRow,
    header: SessionHeader,
    records: Sequence[Record],
    *,
    kept: int,
) -> int:
    """Let a session go on after its first `kept` entries with others; return its version."""
    head, turns = session.head, session.turns
    if kept < session.entries:
        head, turns = await ancestor(transaction, head, num_entries=kept, session_id=session.id)
    version = await update_session(
        transaction,
        session,
        header=header_to_json(header),
        head=await grow(transaction, head, records, depth=kept),
        entries=kept + len(records),
        turns=records[-1].turn if records else turns,
    )
    if kept < session.entries:
        await _prune(transaction, session, [session.head])
    return version


async def _fork(
    transaction: Transaction, source_id: str, target_id: str, num_entries: int | None
) -> int | None:
    """Make a fork and return its version; None where somebody else made the target meanwhile."""
    target = await find_session(transaction, target_id)
    if target is not None and target.token == transaction.token:
        return target.version
    source = await find_to_share(transaction, source_id)
    found = {session.id: session for session in (source, target) if session is not None}
    check_fork(source_id, target_id, existing=found)
    source = found[source_id]
    kept = forked_entries(source_id, source.entries, wanted=num_entries)
    head, turns = source.head, source.turns
    if kept < source.entries:
        head, turns = await ancestor(transaction, head, num_entries=kept, session_id=source_id)
    return await insert_fork(transaction, target_id, source, head=head, entries=kept, turns=turns)


async def _prune(transaction: Transaction, session: SessionRow, heads: Sequence[int | None]) -> None:
    """Delete what only a session needed of the paths to `heads`.

    Two that prune one tree at once would each leave what the other still seems to need.
    """
    await transaction.lock("tree", str(session.tree))
    for head in heads:
        if head is not None:
            await prune(transaction, head)

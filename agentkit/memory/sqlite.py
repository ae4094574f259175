"""Sessions in one SQLite file, which many processes may share. Says what each operation does to the rows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from agentkit.memory.audit import AuditEvent, AuditRecord
from agentkit.memory.audit_log import SESSION_DELETED
from agentkit.memory.codec import Record, encode_entries
from agentkit.memory.journal import JournalRecord, encode_journal
from agentkit.memory.rules import (
    check_fork,
    check_prefix,
    check_session_id,
    check_version,
    forked_entries,
    kept_entries,
)
from agentkit.memory.session_lock import locked
from agentkit.memory.sqlite_audit import append_event, read_audit
from agentkit.memory.sqlite_entries import ancestor, grow, path_length, prune, read_path
from agentkit.memory.sqlite_file import SQLiteFile
from agentkit.memory.sqlite_sessions import (
    SessionRow,
    append_archive,
    append_journal,
    archived_heads,
    delete_session,
    drop_journal,
    find_session,
    header_from_text,
    header_to_text,
    list_sessions,
    put_session,
    read_journal,
)
from agentkit.memory.store import SessionHeader, SessionInfo, StoredSession
from agentkit.memory.transcript import Entry, StoredEntry


class SQLiteStore:
    """The store in a file; see `Store`. A write is on the disk when it returns.

    A store is for one event loop at a time. `busy_timeout` is how many seconds an operation waits for another
    process to end its transaction.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0) -> None:
        self._file = SQLiteFile(path, busy_timeout=busy_timeout)

    @property
    def path(self) -> Path:
        """The file, as an absolute path."""
        return self._file.path

    @asynccontextmanager
    async def hold(self, session_id: str) -> AsyncIterator[None]:
        """See `Store.hold`."""
        check_session_id(session_id)
        await self._file.read(lambda _: None)  # it is a store, and open
        with locked(self.path, session_id):
            yield

    async def load(self, session_id: str) -> StoredSession | None:
        """See `Store.load`."""
        check_session_id(session_id)
        return await self._file.read(lambda connection: _load(connection, session_id))

    async def version(self, session_id: str) -> int:
        """See `Store.version`."""
        check_session_id(session_id)

        def work(connection: sqlite3.Connection) -> int:
            row = find_session(connection, session_id)
            return row.version if row else 0

        return await self._file.read(work)

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
        rows = encode_journal(records)

        def work(connection: sqlite3.Connection) -> int:
            old = _current(connection, session_id, expected_version)
            position = old.journal if old else 0
            new = put_session(
                connection,
                session_id,
                old,
                header=old.header if old else header_to_text(header),
                head=old.head if old else None,
                journal=position + len(rows),
            )
            append_journal(connection, new.key, rows, position=position)
            return new.version

        return await self._file.write(work)

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
        """See `Store.commit`. What is replaced and not archived is gone from the file's bytes too."""
        check_session_id(session_id)
        records = encode_entries(entries)

        def work(connection: sqlite3.Connection) -> int:
            old = _current(connection, session_id, expected_version)
            new = _commit(
                connection, session_id, old, header, records, replace_from=replace_from, archive=archive
            )
            if event is not None:
                append_event(connection, event, session_id=session_id)
            return new.version

        if replace_from is None or archive:
            return await self._file.write(work)
        return await self._file.erase(work)

    async def archived(self, session_id: str) -> tuple[tuple[StoredEntry, ...], ...]:
        """See `Store.archived`."""
        check_session_id(session_id)

        def work(connection: sqlite3.Connection) -> tuple[tuple[StoredEntry, ...], ...]:
            row = find_session(connection, session_id)
            heads = archived_heads(connection, row.key) if row else []
            return tuple(read_path(connection, head, session_id=session_id) for head in heads)

        return await self._file.read(work)

    async def fork(self, source_id: str, target_id: str, *, num_entries: int | None = None) -> int:
        """See `Store.fork`."""
        check_session_id(source_id)
        check_session_id(target_id)

        def work(connection: sqlite3.Connection) -> int:
            rows = {id_: find_session(connection, id_) for id_ in (source_id, target_id)}
            found = {id_: row for id_, row in rows.items() if row}
            check_fork(source_id, target_id, existing=found)
            source = found[source_id]
            head = _ancestor(connection, source, num_entries)
            return put_session(
                connection, target_id, None, header=source.header, head=head, journal=0
            ).version

        return await self._file.write(work)

    async def list(self, prefix: str = "") -> list[SessionInfo]:
        """See `Store.list`."""
        check_prefix(prefix)
        return await self._file.read(lambda connection: list_sessions(connection, prefix))

    async def delete(self, session_id: str, *, expected_version: int | None = None) -> bool:
        """See `Store.delete`. What nobody shares is gone from the file's bytes too."""
        check_session_id(session_id)

        def work(connection: sqlite3.Connection) -> bool:
            if expected_version is not None:
                _current(connection, session_id, expected_version)
            heads = delete_session(connection, session_id)
            for head in heads or ():
                prune(connection, head)
            if heads is not None:
                append_event(connection, SESSION_DELETED, session_id=session_id)
            return heads is not None

        return await self._file.erase(work)

    async def note(self, session_id: str, event: AuditEvent) -> None:
        """See `Store.note`."""
        check_session_id(session_id)
        await self._file.write(lambda connection: append_event(connection, event, session_id=session_id))

    async def audit(self, tenant: str) -> tuple[AuditRecord, ...]:
        """See `Store.audit`."""
        check_prefix(tenant)
        return await self._file.read(lambda connection: read_audit(connection, tenant))

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the store as it is now to a new file, itself a store, while others read and write.

        Raises:
            StoreError: if the file exists or cannot be written.
        """
        await self._file.backup(path)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._file.close()


def _load(connection: sqlite3.Connection, session_id: str) -> StoredSession | None:
    row = find_session(connection, session_id)
    if row is None:
        return None
    return StoredSession(
        id=session_id,
        version=row.version,
        header=header_from_text(row.header, session_id=session_id),
        entries=read_path(connection, row.head, session_id=session_id),
        journal=read_journal(connection, row),
    )


def _current(connection: sqlite3.Connection, session_id: str, expected_version: int) -> SessionRow | None:
    row = find_session(connection, session_id)
    check_version(session_id, row.version if row else 0, expected=expected_version)
    return row


def _commit(
    connection: sqlite3.Connection,
    session_id: str,
    old: SessionRow | None,
    header: SessionHeader,
    records: Sequence[Record],
    *,
    replace_from: int | None,
    archive: bool,
) -> SessionRow:
    old_head = old.head if old else None
    num_entries = path_length(connection, old_head, session_id=session_id)
    kept = kept_entries(session_id, num_entries, replace_from=replace_from)
    parent = ancestor(connection, old_head, num_entries=kept, session_id=session_id)
    head = grow(connection, parent, records, depth=kept)
    new = put_session(connection, session_id, old, header=header_to_text(header), head=head, journal=0)
    if old is not None:
        drop_journal(connection, old.key)
        if archive:
            append_archive(connection, old.key, old_head)
        elif kept < num_entries:
            prune(connection, old_head)
    return new


def _ancestor(connection: sqlite3.Connection, source: SessionRow, num_entries: int | None) -> int | None:
    available = path_length(connection, source.head, session_id=source.id)
    kept = forked_entries(source.id, available, wanted=num_entries)
    return ancestor(connection, source.head, num_entries=kept, session_id=source.id)

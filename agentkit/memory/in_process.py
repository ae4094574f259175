"""Sessions in the memory of the process: gone with it. Keeps the bytes that a database would keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime

from anyio.lowlevel import checkpoint

from agentkit.errors import StoreError
from agentkit.memory.audit import AuditEvent, AuditRecord
from agentkit.memory.audit_log import SESSION_DELETED, following
from agentkit.memory.codec import Record, decode_entries, encode_entries
from agentkit.memory.journal import JournalRecord, JournalRow, decode_journal, encode_journal
from agentkit.memory.rules import (
    busy,
    check_fork,
    check_prefix,
    check_session_id,
    check_version,
    forked_entries,
    kept_entries,
    tenant_of,
)
from agentkit.memory.store import SessionHeader, SessionInfo, StoredSession
from agentkit.memory.transcript import Entry, StoredEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    version: int
    header: SessionHeader
    records: tuple[Record, ...]
    journal: tuple[JournalRow, ...]
    archive: tuple[tuple[Record, ...], ...]
    created: datetime
    updated: datetime


class MemoryStore:
    """The store in the process; see `Store`."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._audit: dict[str, list[AuditRecord]] = {}
        self._held: set[str] = set()
        self._last_version = 0
        self._closed = False

    @asynccontextmanager
    async def hold(self, session_id: str) -> AsyncIterator[None]:
        """See `Store.hold`."""
        await self._begin(session_id)
        if session_id in self._held:
            raise busy(session_id)
        self._held.add(session_id)
        try:
            yield
        finally:
            self._held.remove(session_id)

    async def load(self, session_id: str) -> StoredSession | None:
        """See `Store.load`."""
        await self._begin(session_id)
        session = self._sessions.get(session_id)
        if session is None:
            return None
        return StoredSession(
            id=session_id,
            version=session.version,
            header=session.header,
            entries=decode_entries(session.records, session_id=session_id),
            journal=decode_journal(session.journal, session_id=session_id),
        )

    async def version(self, session_id: str) -> int:
        """See `Store.version`."""
        await self._begin(session_id)
        session = self._sessions.get(session_id)
        return session.version if session else 0

    async def append(
        self,
        session_id: str,
        *,
        expected_version: int,
        header: SessionHeader,
        records: Sequence[JournalRecord],
    ) -> int:
        """See `Store.append`."""
        rows = encode_journal(records)
        await self._begin(session_id)
        old = self._current(session_id, expected_version)
        return self._put(
            session_id,
            header=old.header if old else header,
            records=old.records if old else (),
            journal=(*(old.journal if old else ()), *rows),
            archive=old.archive if old else (),
        )

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
        records = encode_entries(entries)
        await self._begin(session_id)
        old = self._current(session_id, expected_version)
        stored = old.records if old else ()
        kept = kept_entries(session_id, len(stored), replace_from=replace_from)
        if event is not None:
            self._put_event(session_id, event)
        return self._put(
            session_id,
            header=header,
            records=(*stored[:kept], *records),
            journal=(),
            archive=(*old.archive, *([stored] if archive else ())) if old else (),
        )

    async def archived(self, session_id: str) -> tuple[tuple[StoredEntry, ...], ...]:
        """See `Store.archived`."""
        await self._begin(session_id)
        session = self._sessions.get(session_id)
        heads = session.archive if session else ()
        return tuple(decode_entries(records, session_id=session_id) for records in heads)

    async def fork(self, source_id: str, target_id: str, *, num_entries: int | None = None) -> int:
        """See `Store.fork`."""
        await self._begin(source_id, target_id)
        check_fork(source_id, target_id, existing=self._sessions.keys())
        source = self._sessions[source_id]
        kept = forked_entries(source_id, len(source.records), wanted=num_entries)
        return self._put(
            target_id, header=source.header, records=source.records[:kept], journal=(), archive=()
        )

    async def list(self, prefix: str = "") -> list[SessionInfo]:
        """See `Store.list`."""
        check_prefix(prefix)
        await self._begin()
        return [
            _info(session_id, session)
            for session_id, session in sorted(self._sessions.items())
            if session_id.startswith(prefix)
        ]

    async def delete(self, session_id: str, *, expected_version: int | None = None) -> bool:
        """See `Store.delete`."""
        await self._begin(session_id)
        if expected_version is not None:
            self._current(session_id, expected_version)
        if session_id not in self._sessions:
            return False
        self._put_event(session_id, SESSION_DELETED)
        del self._sessions[session_id]
        return True

    async def note(self, session_id: str, event: AuditEvent) -> None:
        """See `Store.note`."""
        await self._begin(session_id)
        self._put_event(session_id, event)

    async def audit(self, tenant: str) -> tuple[AuditRecord, ...]:
        """See `Store.audit`."""
        check_prefix(tenant)
        await self._begin()
        return tuple(deepcopy(self._audit.get(tenant, [])))

    async def close(self) -> None:
        """See `Store.close`; the sessions are gone."""
        self._closed = True
        self._sessions.clear()
        self._audit.clear()

    async def _begin(self, *session_ids: str) -> None:
        """Check what every operation checks. After this an operation runs to its end without a pause."""
        for session_id in session_ids:
            check_session_id(session_id)
        await checkpoint()
        if self._closed:
            raise StoreError("the store is closed")

    def _current(self, session_id: str, expected_version: int) -> _Session | None:
        session = self._sessions.get(session_id)
        check_version(session_id, session.version if session else 0, expected=expected_version)
        return session

    def _put(
        self,
        session_id: str,
        *,
        header: SessionHeader,
        records: tuple[Record, ...],
        journal: tuple[JournalRow, ...],
        archive: tuple[tuple[Record, ...], ...],
    ) -> int:
        now, old = datetime.now(UTC), self._sessions.get(session_id)
        self._last_version += 1
        self._sessions[session_id] = _Session(
            version=self._last_version,
            header=header,
            records=records,
            journal=journal,
            archive=archive,
            created=old.created if old else now,
            updated=max(now, old.updated) if old else now,
        )
        return self._last_version

    def _put_event(self, session_id: str, event: AuditEvent) -> None:
        chain = self._audit.setdefault(tenant_of(session_id), [])
        last = chain[-1] if chain else None
        chain.append(following(last, event, session_id=session_id, now=datetime.now(UTC)))


def _info(session_id: str, session: _Session) -> SessionInfo:
    return SessionInfo(
        id=session_id,
        version=session.version,
        turns=session.records[-1].turn if session.records else 0,
        entries=len(session.records),
        created=session.created,
        updated=session.updated,
        unfinished=bool(session.journal),
    )

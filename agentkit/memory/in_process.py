"""Sessions in the memory of the process: gone with it. Keeps the bytes that a database would keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from anyio.lowlevel import checkpoint

from agentkit.errors import StoreError
from agentkit.memory.codec import Record, decode_entries, encode_entries
from agentkit.memory.rules import check_fork, check_prefix, check_session_id, check_version, kept_entries
from agentkit.memory.store import SessionHeader, SessionInfo, StoredSession
from agentkit.memory.transcript import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    version: int
    header: SessionHeader
    records: tuple[Record, ...]
    created: datetime
    updated: datetime


class MemoryStore:
    """The store in the process; see `Store`."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._last_version = 0
        self._closed = False

    async def load(self, session_id: str) -> StoredSession | None:
        """See `Store.load`."""
        await self._begin(session_id)
        session = self._sessions.get(session_id)
        if session is None:
            return None
        entries = decode_entries(session.records, session_id=session_id)
        return StoredSession(id=session_id, version=session.version, header=session.header, entries=entries)

    async def commit(
        self,
        session_id: str,
        *,
        expected_version: int,
        header: SessionHeader,
        entries: Sequence[Entry],
        replace_from: int | None = None,
    ) -> int:
        """See `Store.commit`."""
        records = encode_entries(entries)
        await self._begin(session_id)
        now = datetime.now(UTC)
        old = self._sessions.get(session_id)
        check_version(session_id, old.version if old else 0, expected=expected_version)
        stored = old.records if old else ()
        kept = kept_entries(session_id, len(stored), replace_from=replace_from)
        session = _Session(
            version=self._next_version(),
            header=header,
            records=(*stored[:kept], *records),
            created=old.created if old else now,
            updated=now,
        )
        self._sessions[session_id] = session
        return session.version

    async def fork(self, source_id: str, target_id: str) -> None:
        """See `Store.fork`."""
        await self._begin(source_id, target_id)
        check_fork(source_id, target_id, existing=self._sessions.keys())
        source = self._sessions[source_id]
        now = datetime.now(UTC)
        self._sessions[target_id] = replace(source, version=self._next_version(), created=now, updated=now)

    async def list(self, prefix: str = "") -> list[SessionInfo]:
        """See `Store.list`."""
        check_prefix(prefix)
        await self._begin()
        return [
            _info(session_id, session)
            for session_id, session in sorted(self._sessions.items())
            if session_id.startswith(prefix)
        ]

    async def delete(self, session_id: str) -> bool:
        """See `Store.delete`."""
        await self._begin(session_id)
        return self._sessions.pop(session_id, None) is not None

    async def close(self) -> None:
        """See `Store.close`; the sessions are gone."""
        self._closed = True
        self._sessions.clear()

    async def _begin(self, *session_ids: str) -> None:
        """Check what every operation checks. After this an operation runs to its end without a pause."""
        for session_id in session_ids:
            check_session_id(session_id)
        await checkpoint()
        if self._closed:
            raise StoreError("the store is closed")

    def _next_version(self) -> int:
        self._last_version += 1
        return self._last_version


def _info(session_id: str, session: _Session) -> SessionInfo:
    return SessionInfo(
        id=session_id,
        version=session.version,
        turns=session.records[-1].turn if session.records else 0,
        entries=len(session.records),
        created=session.created,
        updated=session.updated,
    )

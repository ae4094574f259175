"""Sessions in one SQLite file, which many processes may share. Knows SQL; `sqlite_file` knows the file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agentkit.errors import StoreError
from agentkit.memory.codec import Record, decode_entries, encode_entries
from agentkit.memory.rules import check_fork, check_prefix, check_session_id, check_version, kept_entries
from agentkit.memory.sqlite_file import SQLiteFile
from agentkit.memory.store import SessionHeader, SessionInfo, StoredSession
from agentkit.memory.transcript import Entry

_ENTRY: Final = "turn, generated, message, ids, checksum"

_LIST: Final = """
SELECT sessions.id, version, coalesce(turn, 0), coalesce(position + 1, 0), created, updated
FROM sessions LEFT JOIN entries
    ON session = key AND position = (SELECT max(position) FROM entries WHERE session = key)
WHERE substr(sessions.id, 1, length(?1)) = ?1 ORDER BY sessions.id
"""


class SQLiteStore:
    """The store in a file; see `Store`. A commit is on the disk when it returns.

    A store is for one event loop at a time. `busy_timeout` is how many seconds an operation waits for another
    process to end its transaction.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0) -> None:
        self._file = SQLiteFile(path, busy_timeout=busy_timeout)

    @property
    def path(self) -> Path:
        """The file, as an absolute path."""
        return self._file.path

    async def load(self, session_id: str) -> StoredSession | None:
        """See `Store.load`."""
        check_session_id(session_id)
        return await self._file.read(lambda connection: _load(connection, session_id))

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
        check_session_id(session_id)
        records = encode_entries(entries)

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(
                "SELECT key, version FROM sessions WHERE id = ?", (session_id,)
            ).fetchone()
            check_version(session_id, row[1] if row else 0, expected=expected_version)
            version = _next_version(connection)
            key = (
                _update(connection, row[0], header, version)
                if row
                else _insert(connection, session_id, header, version)
            )
            _append(connection, session_id, key, records, replace_from=replace_from)
            return version

        return await self._file.write(work)

    async def fork(self, source_id: str, target_id: str) -> None:
        """See `Store.fork`."""
        check_session_id(source_id)
        check_session_id(target_id)
        await self._file.write(lambda connection: _fork(connection, source_id, target_id))

    async def list(self, prefix: str = "") -> list[SessionInfo]:
        """See `Store.list`."""
        check_prefix(prefix)
        rows = await self._file.read(lambda connection: connection.execute(_LIST, (prefix,)).fetchall())
        return [_info(*row) for row in rows]

    async def delete(self, session_id: str) -> bool:
        """See `Store.delete`."""
        check_session_id(session_id)

        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,)).rowcount > 0

        return await self._file.write(work)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._file.close()


def _load(connection: sqlite3.Connection, session_id: str) -> StoredSession | None:
    row = connection.execute(
        "SELECT key, version, header FROM sessions WHERE id = ?", (session_id,)
    ).fetchone()
    if row is None:
        return None
    key, version, header = row
    query = f"SELECT {_ENTRY} FROM entries WHERE session = ? ORDER BY position"  # noqa: S608
    records = [_record(*fields) for fields in connection.execute(query, (key,))]
    return StoredSession(
        id=session_id,
        version=version,
        header=_header(header, session_id),
        entries=decode_entries(records, session_id=session_id),
    )


def _insert(connection: sqlite3.Connection, session_id: str, header: SessionHeader, version: int) -> int:
    now = _now()
    statement = "INSERT INTO sessions (id, version, header, created, updated) VALUES (?, ?, ?, ?, ?)"
    fields = (session_id, version, json.dumps(asdict(header)), now, now)
    key = connection.execute(statement, fields).lastrowid
    if key is None:
        raise StoreError(f"session {session_id!r} was not written")
    return key


def _update(connection: sqlite3.Connection, key: int, header: SessionHeader, version: int) -> int:
    statement = "UPDATE sessions SET version = ?, header = ?, updated = ? WHERE key = ?"
    connection.execute(statement, (version, json.dumps(asdict(header)), _now(), key))
    return key


def _append(
    connection: sqlite3.Connection,
    session_id: str,
    key: int,
    records: Sequence[Record],
    *,
    replace_from: int | None,
) -> None:
    count = "SELECT coalesce(max(position) + 1, 0) FROM entries WHERE session = ?"
    num_entries = int(connection.execute(count, (key,)).fetchone()[0])
    kept = kept_entries(session_id, num_entries, replace_from=replace_from)
    if kept < num_entries:
        connection.execute("DELETE FROM entries WHERE session = ? AND position >= ?", (key, kept))
    connection.executemany(
        f"INSERT INTO entries (session, position, {_ENTRY}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (
            (key, position, record.turn, record.generated, record.message, record.ids, record.checksum)
            for position, record in enumerate(records, start=kept)
        ),
    )


def _fork(connection: sqlite3.Connection, source_id: str, target_id: str) -> None:
    query = "SELECT id, key, header FROM sessions WHERE id IN (?, ?)"
    found = {row[0]: row for row in connection.execute(query, (source_id, target_id))}
    check_fork(source_id, target_id, existing=found)
    _, source_key, header = found[source_id]
    target_key = _insert(connection, target_id, _header(header, source_id), _next_version(connection))
    connection.execute(
        f"INSERT INTO entries (session, position, {_ENTRY}) "  # noqa: S608
        f"SELECT ?, position, {_ENTRY} FROM entries WHERE session = ?",
        (target_key, source_key),
    )


def _next_version(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE versions SET last = last + 1")
    return int(connection.execute("SELECT last FROM versions").fetchone()[0])


def _record(turn: int, generated: int, message: bytes, ids: bytes, checksum: int) -> Record:
    return Record(turn=turn, generated=bool(generated), message=message, ids=ids, checksum=checksum)


def _header(text: str, session_id: str) -> SessionHeader:
    try:
        return SessionHeader(**json.loads(text))
    except (TypeError, ValueError) as exc:
        raise StoreError(f"the header of session {session_id!r} cannot be read; restore a backup") from exc


def _info(session_id: str, version: int, turns: int, entries: int, created: str, updated: str) -> SessionInfo:
    try:
        times = datetime.fromisoformat(created), datetime.fromisoformat(updated)
    except (TypeError, ValueError) as exc:
        raise StoreError(f"the times of session {session_id!r} cannot be read; restore a backup") from exc
    return SessionInfo(
        id=session_id, version=version, turns=turns, entries=entries, created=times[0], updated=times[1]
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")

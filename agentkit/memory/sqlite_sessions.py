"""The rows of sessions, their journals and archives in a SQLite file. Knows what they hold, not when they change.

Every function needs a transaction; those that write need one that writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from agentkit.errors import StoreError
from agentkit.memory.journal import JournalRecord, JournalRow, decode_journal
from agentkit.memory.sqlite_schema import place, session_checksum, unplaced
from agentkit.memory.store import SessionHeader, SessionInfo

_LIST: Final = """
SELECT sessions.id, version, coalesce(turn, 0), coalesce(depth + 1, 0), created, updated, journal > 0
FROM sessions LEFT JOIN entries ON entries.id = head
WHERE substr(sessions.id, 1, length(?1)) = ?1 ORDER BY sessions.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session's row; `journal` is the number of records in its journal."""

    key: int
    id: str
    version: int
    header: str
    head: int | None
    journal: int


def find_session(connection: sqlite3.Connection, session_id: str) -> SessionRow | None:
    """Return a session's row, None where there is none.

    Raises:
        StoreError: if the row is not what was written.
    """
    query = "SELECT key, version, header, head, journal, checksum FROM sessions WHERE id = ?"
    row = connection.execute(query, (session_id,)).fetchone()
    if row is None:
        return None
    key, version, header, head, journal, checksum = row
    if checksum != session_checksum(session_id, version, header, head, journal):
        raise StoreError(
            f"session {session_id!r} is damaged: its checksum does not fit; "
            "restore a backup or delete the session"
        )
    return SessionRow(key=key, id=session_id, version=version, header=header, head=head, journal=journal)


def put_session(
    connection: sqlite3.Connection,
    session_id: str,
    old: SessionRow | None,
    *,
    header: str,
    head: int | None,
    journal: int,
) -> SessionRow:
    """Write what a session has become, or a new one, and return its row with its new version."""
    version = _next_version(connection)
    checksum = session_checksum(session_id, version, header, head, journal)
    values = (version, header, head, journal, checksum, _now())
    key = _update(connection, old.key, values) if old else _insert(connection, session_id, values)
    return SessionRow(key=key, id=session_id, version=version, header=header, head=head, journal=journal)


def append_journal(
    connection: sqlite3.Connection, key: int, records: Sequence[JournalRow], *, position: int
) -> None:
    """Put records into a session's journal, the first at `position`."""
    connection.executemany(
        "INSERT INTO journal VALUES (?, ?, ?, ?, ?)",
        (
            (key, index, record.kind, record.body, record.checksum ^ place(key, index))
            for index, record in enumerate(records, start=position)
        ),
    )


def read_journal(connection: sqlite3.Connection, row: SessionRow) -> tuple[JournalRecord, ...]:
    """Return the records of a session's journal.

    Raises:
        StoreError: if one is missing or is not what was written.
    """
    query = "SELECT position, kind, body, checksum FROM journal WHERE session = ? ORDER BY position"
    rows = connection.execute(query, (row.key,)).fetchall()
    if len(rows) != row.journal:
        raise StoreError(
            f"the journal of session {row.id!r} is damaged: it has {len(rows)} records of {row.journal}; "
            "restore a backup or delete the session"
        )
    return decode_journal([_journal_row(row.key, *fields) for fields in rows], session_id=row.id)


def drop_journal(connection: sqlite3.Connection, key: int) -> None:
    """Delete a session's journal."""
    connection.execute("DELETE FROM journal WHERE session = ?", (key,))


def append_archive(connection: sqlite3.Connection, key: int, head: int | None) -> None:
    """Keep a head as the last of a session's archive."""
    statement = "INSERT INTO archives SELECT ?1, count(*), ?2 FROM archives WHERE session = ?1"
    connection.execute(statement, (key, head))


def archived_heads(connection: sqlite3.Connection, key: int) -> list[int | None]:
    """Return the heads that a session's archive keeps, oldest first."""
    query = "SELECT head FROM archives WHERE session = ? ORDER BY position"
    return [head for (head,) in connection.execute(query, (key,))]


def delete_session(connection: sqlite3.Connection, session_id: str) -> list[int | None] | None:
    """Delete a session, damaged or not; return the heads that it kept, None where there was none."""
    row = connection.execute("SELECT key, head FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if row is None:
        return None
    key, head = row
    heads = [head, *archived_heads(connection, key)]
    connection.execute("DELETE FROM sessions WHERE key = ?", (key,))
    return heads


def list_sessions(connection: sqlite3.Connection, prefix: str) -> list[SessionInfo]:
    """Return the sessions whose id starts with the prefix, sorted by id.

    Raises:
        StoreError: if a time is none.
    """
    return [_info(*row) for row in connection.execute(_LIST, (prefix,))]


def header_to_text(header: SessionHeader) -> str:
    """Return a header as `header_from_text` reads it."""
    return json.dumps(asdict(header))


def header_from_text(text: str, *, session_id: str) -> SessionHeader:
    """Return a session's header.

    Raises:
        StoreError: if it is none.
    """
    try:
        return SessionHeader(**json.loads(text))
    except (TypeError, ValueError) as exc:
        raise StoreError(f"the header of session {session_id!r} cannot be read; restore a backup") from exc


def _insert(connection: sqlite3.Connection, session_id: str, values: Sequence[Any]) -> int:
    *state, now = values
    cursor = connection.execute(
        "INSERT INTO sessions (id, version, header, head, journal, checksum, created, updated) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (session_id, *state, now, now),
    )
    if cursor.lastrowid is None:
        raise StoreError(f"session {session_id!r} was not written")
    return cursor.lastrowid


def _update(connection: sqlite3.Connection, key: int, values: Sequence[Any]) -> int:
    # The clock may have gone back since the last write.
    connection.execute(
        "UPDATE sessions SET version = ?, header = ?, head = ?, journal = ?, checksum = ?, "
        "updated = max(updated, ?) WHERE key = ?",
        (*values, key),
    )
    return key


def _next_version(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE versions SET last = last + 1")
    return int(connection.execute("SELECT last FROM versions").fetchone()[0])


def _journal_row(key: int, position: int, kind: str, body: Any, checksum: int) -> JournalRow:
    # A damaged body may have become a number or a text, which no checksum can be taken of.
    content = body if isinstance(body, bytes) else b""
    return JournalRow(kind=kind, body=content, checksum=unplaced(checksum, key, position))


def _info(
    session_id: str, version: int, turns: int, entries: int, created: str, updated: str, unfinished: int
) -> SessionInfo:
    try:
        times = datetime.fromisoformat(created), datetime.fromisoformat(updated)
    except (TypeError, ValueError) as exc:
        raise StoreError(f"the times of session {session_id!r} cannot be read; restore a backup") from exc
    return SessionInfo(
        id=session_id,
        version=version,
        turns=turns,
        entries=entries,
        created=times[0],
        updated=times[1],
        unfinished=bool(unfinished),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")

"""The tables of a store's file, by version, and the way from each version to the next. Knows SQL, no store."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

APPLICATION_ID: Final = 0x61676E74
"""What marks a SQLite file as a store of agentkit: "agnt" in ASCII."""

_VERSION_1: Final = (
    "CREATE TABLE versions (last INTEGER NOT NULL)",
    "INSERT INTO versions (last) VALUES (0)",
    """CREATE TABLE sessions (
        key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL, header TEXT NOT NULL,
        created TEXT NOT NULL, updated TEXT NOT NULL
    )""",
    """CREATE TABLE entries (
        session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE, position INTEGER NOT NULL,
        turn INTEGER NOT NULL, generated INTEGER NOT NULL, message BLOB NOT NULL, ids BLOB NOT NULL,
        checksum INTEGER NOT NULL, PRIMARY KEY (session, position)
    )""",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

# Entries form a tree. A session is a path of it, from its head to an entry without a parent; a fork is another
# session with the same head. `journal` in a session is the number of its journal's records.
_VERSION_2: Final = (
    "ALTER TABLE entries RENAME TO entries_1",
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY, parent INTEGER REFERENCES entries (id), depth INTEGER NOT NULL,
        turn INTEGER NOT NULL, generated INTEGER NOT NULL, message BLOB NOT NULL, ids BLOB NOT NULL,
        checksum INTEGER NOT NULL
    )""",
    "CREATE INDEX entries_parent ON entries (parent)",
    "ALTER TABLE sessions ADD COLUMN head INTEGER REFERENCES entries (id)",
    "ALTER TABLE sessions ADD COLUMN journal INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX sessions_head ON sessions (head)",
    """CREATE TABLE archives (
        session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE, position INTEGER NOT NULL,
        head INTEGER REFERENCES entries (id), PRIMARY KEY (session, position)
    )""",
    "CREATE INDEX archives_head ON archives (head)",
    """CREATE TABLE journal (
        session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE, position INTEGER NOT NULL,
        kind TEXT NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (session, position)
    ) WITHOUT ROWID""",
    """CREATE TABLE audit (
        tenant TEXT NOT NULL, sequence INTEGER NOT NULL, time TEXT NOT NULL, session_id TEXT NOT NULL,
        kind TEXT NOT NULL, details TEXT NOT NULL, previous TEXT NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (tenant, sequence)
    ) WITHOUT ROWID""",
)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables from a version, 0 where there are none, to the last one. Needs a transaction."""
    for step in _STEPS[version:]:
        step(connection)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def place(*coordinates: int | None) -> int:
    """Return what a row's checksum is mixed with, so that it fits in this place only."""
    return zlib.crc32(ascii(coordinates).encode())


def unplaced(checksum: Any, *coordinates: int | None) -> int:
    """Return what `place` was mixed with; -1, which fits nothing, where a damaged checksum is no number."""
    return checksum ^ place(*coordinates) if isinstance(checksum, int) else -1


def session_checksum(session_id: str, version: int, header: str, head: int | None, journal: int) -> int:
    """Return the checksum of a session's row."""
    return zlib.crc32(ascii((session_id, version, header, head, journal)).encode())


def _make_tables(connection: sqlite3.Connection) -> None:
    _execute(connection, _VERSION_1)


def _make_tree(connection: sqlite3.Connection) -> None:
    _execute(connection, _VERSION_2)
    sessions = connection.execute("SELECT key, id, version, header FROM sessions").fetchall()
    last = 0
    for key, session_id, version, header in sessions:
        head, last = _move_entries(connection, key, after=last)
        checksum = session_checksum(session_id, version, header, head, 0)
        connection.execute("UPDATE sessions SET head = ?, checksum = ? WHERE key = ?", (head, checksum, key))
    connection.execute("DROP TABLE entries_1")


def _move_entries(connection: sqlite3.Connection, key: int, *, after: int) -> tuple[int | None, int]:
    """Hang a session's entries on each other; return the last one's id, None without any, and the next `after`."""
    query = (
        "SELECT turn, generated, message, ids, checksum FROM entries_1 WHERE session = ? ORDER BY position"
    )
    parent = None
    for depth, (*content, checksum) in enumerate(connection.execute(query, (key,))):
        after += 1
        row = (after, parent, depth, *content, checksum ^ place(after, parent, depth))
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        parent = after
    return parent, after


def _execute(connection: sqlite3.Connection, statements: Sequence[str]) -> None:
    for statement in statements:
        connection.execute(statement)


_STEPS: Final[Sequence[Callable[[sqlite3.Connection], None]]] = (_make_tables, _make_tree)

SCHEMA_VERSION: Final = len(_STEPS)

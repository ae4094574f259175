"""The tree of entries in a SQLite file: paths are read, grown and pruned. Knows no session.

Every function needs a transaction; those that write need one that writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from agentkit.errors import StoreError
from agentkit.memory.codec import Record, decode_entries
from agentkit.memory.sqlite_schema import place, unplaced
from agentkit.memory.transcript import StoredEntry

# The depths make every walk end, whatever a damaged row says.
_PATH: Final = """
WITH RECURSIVE path (id, parent, depth) AS (
    SELECT id, parent, depth FROM entries WHERE id = ?
    UNION ALL
    SELECT entries.id, entries.parent, entries.depth FROM path CROSS JOIN entries
    WHERE entries.id = path.parent AND entries.depth = path.depth - 1
)
"""

_READ: Final = f"{_PATH} SELECT entries.* FROM path CROSS JOIN entries WHERE entries.id = path.id"  # noqa: S608

# The limit makes the walk end where it has found the entry.
_ANCESTOR: Final = f"{_PATH} SELECT id FROM path WHERE depth = ? LIMIT 1"  # noqa: S608

_PRUNE: Final = """
WITH RECURSIVE dead (id, parent) AS (
    SELECT id, parent FROM entries WHERE id = ?
        AND NOT EXISTS (SELECT 1 FROM entries AS child WHERE child.parent = entries.id)
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE head = entries.id)
        AND NOT EXISTS (SELECT 1 FROM archives WHERE head = entries.id)
    UNION
    SELECT entries.id, entries.parent FROM dead CROSS JOIN entries
    WHERE entries.id = dead.parent
        AND NOT EXISTS (SELECT 1 FROM entries AS child WHERE child.parent = entries.id AND child.id != dead.id)
        AND NOT EXISTS (SELECT 1 FROM sessions WHERE head = entries.id)
        AND NOT EXISTS (SELECT 1 FROM archives WHERE head = entries.id)
)
DELETE FROM entries WHERE id IN (SELECT id FROM dead)
"""


def read_path(
    connection: sqlite3.Connection, head: int | None, *, session_id: str
) -> tuple[StoredEntry, ...]:
    """Return the entries from the first one down to `head`.

    Raises:
        StoreError: if one is missing or is not what was written.
    """
    rows = connection.execute(_READ, (head,)).fetchall()
    rows.reverse()
    if [row[2] for row in rows] != list(range(len(rows))) or bool(rows) != (head is not None):
        raise _damaged(session_id)
    return decode_entries([_record(*row) for row in rows], session_id=session_id)


def path_length(connection: sqlite3.Connection, head: int | None, *, session_id: str) -> int:
    """Return the number of entries down to `head`.

    Raises:
        StoreError: if there is no such entry.
    """
    if head is None:
        return 0
    row = connection.execute("SELECT depth FROM entries WHERE id = ?", (head,)).fetchone()
    if row is None:
        raise _damaged(session_id)
    return int(row[0]) + 1


def ancestor(
    connection: sqlite3.Connection, head: int | None, *, num_entries: int, session_id: str
) -> int | None:
    """Return the last of the first entries of the path to `head`; None where they are none.

    Raises:
        StoreError: if there is no such entry.
    """
    if num_entries == 0:
        return None
    row = connection.execute(_ANCESTOR, (head, num_entries - 1)).fetchone()
    if row is None:
        raise _damaged(session_id)
    return int(row[0])


def grow(
    connection: sqlite3.Connection, parent: int | None, records: Iterable[Record], *, depth: int
) -> int | None:
    """Hang records on an entry, one on the other, the first at `depth`; return the last one's id."""
    last = int(connection.execute("SELECT coalesce(max(id), 0) FROM entries").fetchone()[0])
    rows: list[Sequence[Any]] = []
    for record in records:
        last += 1
        rows.append(_row(last, parent, depth + len(rows), record))
        parent = last
    connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return parent


def prune(connection: sqlite3.Connection, head: int | None) -> None:
    """Delete `head` and its ancestors as far up as no session, no archive and no other entry needs them."""
    connection.execute(_PRUNE, (head,))


def _row(id_: int, parent: int | None, depth: int, record: Record) -> Sequence[Any]:
    checksum = record.checksum ^ place(id_, parent, depth)
    return (id_, parent, depth, record.turn, record.generated, record.message, record.ids, checksum)


def _record(
    id_: int,
    parent: int | None,
    depth: int,
    turn: int,
    generated: int,
    message: bytes,
    ids: bytes,
    checksum: int,
) -> Record:
    return Record(
        turn=turn,
        generated=bool(generated),
        message=message,
        ids=ids,
        checksum=unplaced(checksum, id_, parent, depth),
    )


def _damaged(session_id: str) -> StoreError:
    return StoreError(
        f"the entries of session {session_id!r} are damaged: one is missing; "
        "restore a backup or delete the session"
    )

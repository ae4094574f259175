"""The tree of entries in PostgreSQL: paths are read, grown and pruned. Knows no session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agentkit.errors import StoreError
from agentkit.memory.codec import Record, decode_entries
from agentkit.memory.postgres_database import Transaction
from agentkit.memory.transcript import StoredEntry

# The depths make every walk end, whatever a damaged row says.
_READ: Final = """
WITH RECURSIVE path AS (
    SELECT key, parent, depth FROM entries WHERE key = %s
    UNION ALL
    SELECT entries.key, entries.parent, entries.depth FROM path JOIN entries
        ON entries.key = path.parent AND entries.depth = path.depth - 1
)
SELECT entries.turn, generated, message, ids, checksum FROM path JOIN entries USING (key) ORDER BY path.depth
"""

_ANCESTOR: Final = """
WITH RECURSIVE path AS (
    SELECT key, parent, depth, turn FROM entries WHERE key = %(head)s
    UNION ALL
    SELECT entries.key, entries.parent, entries.depth, entries.turn FROM path JOIN entries
        ON entries.key = path.parent AND entries.depth = path.depth - 1
    WHERE path.depth > %(depth)s
)
SELECT key, turn FROM path WHERE depth = %(depth)s
"""

_GROW: Final = """
WITH given AS (
    SELECT nextval('entry_keys') AS key, given.* FROM unnest(
        %(turns)s::integer[], %(generated)s::boolean[], %(messages)s::bytea[], %(ids)s::bytea[],
        %(checksums)s::bigint[]
    ) WITH ORDINALITY AS given (turn, generated, message, ids, checksum, number)
), grown AS (
    INSERT INTO entries (key, parent, depth, turn, generated, message, ids, checksum)
    SELECT key, lag(key, 1, %(parent)s::bigint) OVER (ORDER BY number), %(depth)s::integer + number - 1, turn,
        generated, message, ids, checksum
    FROM given
    RETURNING key, depth
)
SELECT key FROM grown ORDER BY depth DESC LIMIT 1
"""

_PRUNE: Final = """
WITH RECURSIVE dead AS (
    SELECT key, parent FROM entries WHERE key = %s
        AND NOT EXISTS (SELECT FROM entries AS child WHERE child.parent = entries.key)
        AND NOT EXISTS (SELECT FROM sessions WHERE head = entries.key)
        AND NOT EXISTS (SELECT FROM archives WHERE head = entries.key)
    UNION ALL
    SELECT entries.key, entries.parent FROM dead JOIN entries ON entries.key = dead.parent
        AND NOT EXISTS (SELECT FROM entries AS child WHERE child.parent = entries.key AND child.key <> dead.key)
        AND NOT EXISTS (SELECT FROM sessions WHERE head = entries.key)
        AND NOT EXISTS (SELECT FROM archives WHERE head = entries.key)
)
DELETE FROM entries USING dead WHERE entries.key = dead.key
"""


async def read_path(
    transaction: Transaction, head: int | None, *, num_entries: int, session_id: str
) -> tuple[StoredEntry, ...]:
    """Return the entries from the first one down to `head`, which must be `num_entries`.

    Raises:
        StoreError: if one is missing or is not what was written.
    """
    rows = await (await transaction.execute(_READ, (head,))).fetchall() if num_entries else []
    if len(rows) != num_entries:
        raise _damaged(session_id)
    return decode_entries([_record(*row) for row in rows], session_id=session_id)


async def ancestor(
    transaction: Transaction, head: int | None, *, num_entries: int, session_id: str
) -> tuple[int | None, int]:
    """Return the last of the first entries of the path to `head`, and its turn; None and 0 where they are none.

    Raises:
        StoreError: if there is no such entry.
    """
    if num_entries == 0:
        return None, 0
    found = await transaction.execute(_ANCESTOR, {"head": head, "depth": num_entries - 1})
    row = await found.fetchone()
    if row is None:
        raise _damaged(session_id)
    return row[0], row[1]


async def grow(
    transaction: Transaction, parent: int | None, records: Sequence[Record], *, depth: int
) -> int | None:
    """Hang records on an entry, one on the other, the first at `depth`; return the last one's key."""
    if not records:
        return parent
    values: dict[str, Any] = {
        "parent": parent,
        "depth": depth,
        "turns": [record.turn for record in records],
        "generated": [record.generated for record in records],
        "messages": [record.message for record in records],
        "ids": [record.ids for record in records],
        "checksums": [record.checksum for record in records],
    }
    row = await (await transaction.execute(_GROW, values)).fetchone()
    return row[0] if row else None


async def prune(transaction: Transaction, head: int) -> None:
    """Delete `head` and its ancestors as far up as no session, no archive and no other entry needs them."""
    await transaction.execute(_PRUNE, (head,))


def _record(turn: int, generated: bool, message: bytes, ids: bytes, checksum: int) -> Record:
    return Record(turn=turn, generated=generated, message=message, ids=ids, checksum=checksum)


def _damaged(session_id: str) -> StoreError:
    return StoreError(
        f"the entries of session {session_id!r} are damaged: one is missing; "
        "restore a backup or delete the session"
    )

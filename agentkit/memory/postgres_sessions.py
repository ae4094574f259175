"""The rows of sessions, their journals and archives in PostgreSQL. Knows what they hold, not when they change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from agentkit.errors import StoreError
from agentkit.memory.journal import JournalRecord, JournalRow, decode_journal
from agentkit.memory.postgres_database import Transaction
from agentkit.memory.store import SessionHeader, SessionInfo

_FIND: Final = (
    "SELECT key, id, version, token, tree, header, head, entries, turns FROM sessions WHERE id = %s"
)
_FIND_TO_WRITE: Final = _FIND + " FOR UPDATE"
_FIND_TO_SHARE: Final = _FIND + " FOR SHARE"

_INSERT: Final = """
INSERT INTO sessions (id, version, token, tree, header, head, entries, turns, created, updated)
VALUES (%(id)s, nextval('versions'), %(token)s, %(tree)s, %(header)s, %(head)s, %(entries)s, %(turns)s,
    clock_timestamp(), clock_timestamp())
ON CONFLICT (id) DO NOTHING RETURNING version
"""

# A session that is about to be made. Until its write ends nobody sees it; who makes the same one waits here.
_INSERT_BLANK: Final = """
INSERT INTO sessions (id, version, tree, header, entries, turns, created, updated)
VALUES (%s, 0, %s, %s, 0, 0, clock_timestamp(), clock_timestamp()) ON CONFLICT (id) DO NOTHING
"""

# A session's time never goes back, as clocks do.
_UPDATE: Final = """
UPDATE sessions SET version = nextval('versions'), token = %s, header = %s, head = %s, entries = %s, turns = %s,
    updated = greatest(updated, clock_timestamp())
WHERE key = %s RETURNING version
"""

_APPEND_JOURNAL: Final = """
INSERT INTO journal (session, position, kind, body, checksum)
SELECT %(session)s, number + (SELECT count(*) FROM journal WHERE session = %(session)s), kind, body, checksum
FROM unnest(%(kinds)s::text[], %(bodies)s::bytea[], %(checksums)s::bigint[])
    WITH ORDINALITY AS given (kind, body, checksum, number)
"""

_READ_JOURNAL: Final = "SELECT kind, body, checksum FROM journal WHERE session = %s ORDER BY position"

_ARCHIVE: Final = """
INSERT INTO archives (session, position, head, entries)
SELECT %(session)s, count(*), %(head)s, %(entries)s FROM archives WHERE session = %(session)s
"""

# An id has only characters below DEL.
_LIST: Final = """
SELECT id, version, turns, entries, created, updated, EXISTS (SELECT FROM journal WHERE session = sessions.key)
FROM sessions WHERE id >= %(prefix)s AND id < %(prefix)s || chr(127) ORDER BY id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A session's row. `token` is that of the write it is from; one that is about to be made has version 0."""

    key: int
    id: str
    version: int
    token: UUID | None
    tree: UUID
    header: str
    head: int | None
    entries: int
    turns: int


async def find_session(transaction: Transaction, session_id: str) -> SessionRow | None:
    """Return a session's row, None where there is none."""
    return _row(await (await transaction.execute(_FIND, (session_id,))).fetchone())


async def find_to_write(transaction: Transaction, session_id: str) -> SessionRow | None:
    """Return a session's row that nobody else changes, shares or deletes until the transaction ends."""
    return _row(await (await transaction.execute(_FIND_TO_WRITE, (session_id,))).fetchone())


async def find_to_share(transaction: Transaction, session_id: str) -> SessionRow | None:
    """Return a session's row that nobody changes or deletes until the transaction ends."""
    return _row(await (await transaction.execute(_FIND_TO_SHARE, (session_id,))).fetchone())


async def make_blank(transaction: Transaction, session_id: str, header: SessionHeader) -> None:
    """Make a session of version 0, for this transaction to fill, where there is none."""
    await transaction.execute(_INSERT_BLANK, (session_id, transaction.token, header_to_json(header)))


async def insert_fork(
    transaction: Transaction,
    session_id: str,
    source: SessionRow,
    *,
    head: int | None,
    entries: int,
    turns: int,
) -> int | None:
    """Make a session with the header of another and a head from its tree; return its version.

    None says that somebody else has made it meanwhile.
    """
    values = {
        "id": session_id,
        "token": transaction.token,
        "tree": source.tree,
        "header": source.header,
        "head": head,
        "entries": entries,
        "turns": turns,
    }
    row = await (await transaction.execute(_INSERT, values)).fetchone()
    return int(row[0]) if row else None


async def update_session(
    transaction: Transaction, session: SessionRow, *, header: str, head: int | None, entries: int, turns: int
) -> int:
    """Write what a session has become and return its version."""
    values = (transaction.token, header, head, entries, turns, session.key)
    row = await (await transaction.execute(_UPDATE, values)).fetchone()
    if row is None:
        raise StoreError(f"session {session.id!r} was not written")
    return int(row[0])


async def delete_session(transaction: Transaction, session: SessionRow) -> list[int | None]:
    """Delete a session's row, journal and archive; return the heads of its paths, whose entries are still there."""
    found = await transaction.execute("SELECT head FROM archives WHERE session = %s", (session.key,))
    heads = [session.head, *(head for (head,) in await found.fetchall())]
    await transaction.execute("DELETE FROM sessions WHERE key = %s", (session.key,))
    return heads


async def append_journal(transaction: Transaction, session: SessionRow, rows: Sequence[JournalRow]) -> None:
    """Put records at the end of a session's journal."""
    values = {
        "session": session.key,
        "kinds": [row.kind for row in rows],
        "bodies": [row.body for row in rows],
        "checksums": [row.checksum for row in rows],
    }
    await transaction.execute(_APPEND_JOURNAL, values)


async def clear_journal(transaction: Transaction, session: SessionRow) -> None:
    """Drop the records of a session's journal."""
    await transaction.execute("DELETE FROM journal WHERE session = %s", (session.key,))


async def read_journal(transaction: Transaction, session: SessionRow) -> tuple[JournalRecord, ...]:
    """Return the records of a session's journal.

    Raises:
        StoreError: if one is not what was written.
    """
    rows = await (await transaction.execute(_READ_JOURNAL, (session.key,))).fetchall()
    records = [JournalRow(kind=kind, body=body, checksum=checksum) for kind, body, checksum in rows]
    return decode_journal(records, session_id=session.id)


async def archive_path(transaction: Transaction, session: SessionRow) -> None:
    """Keep the path that a session has now, whatever becomes of the session's own."""
    values = {"session": session.key, "head": session.head, "entries": session.entries}
    await transaction.execute(_ARCHIVE, values)


async def read_archives(transaction: Transaction, session: SessionRow) -> list[tuple[int | None, int]]:
    """Return the head and the length of each archived path, oldest first."""
    query = "SELECT head, entries FROM archives WHERE session = %s ORDER BY position"
    rows = await (await transaction.execute(query, (session.key,))).fetchall()
    return [(head, entries) for head, entries in rows]


async def list_sessions(transaction: Transaction, prefix: str) -> list[SessionInfo]:
    """Return the sessions whose id starts with the prefix, sorted by id."""
    rows = await (await transaction.execute(_LIST, {"prefix": prefix})).fetchall()
    return [_info(*row) for row in rows]


def header_to_json(header: SessionHeader) -> str:
    """Return a header as ASCII text, whatever its names are made of; `header_from_json` reads it back."""
    return json.dumps(asdict(header))


def header_from_json(text: str, *, session_id: str) -> SessionHeader:
    """Read a header.

    Raises:
        StoreError: if it is not what was written.
    """
    try:
        return SessionHeader(**json.loads(text))
    except (TypeError, ValueError) as exc:
        raise StoreError(f"the header of session {session_id!r} cannot be read; restore a backup") from exc


def _row(values: Sequence[Any] | None) -> SessionRow | None:
    if values is None:
        return None
    key, session_id, version, token, tree, header, head, entries, turns = values
    return SessionRow(
        key=key,
        id=session_id,
        version=version,
        token=token,
        tree=tree,
        header=header,
        head=head,
        entries=entries,
        turns=turns,
    )


def _info(
    session_id: str,
    version: int,
    turns: int,
    entries: int,
    created: datetime,
    updated: datetime,
    unfinished: bool,
) -> SessionInfo:
    return SessionInfo(
        id=session_id,
        version=version,
        turns=turns,
        entries=entries,
        created=created,
        updated=updated,
        unfinished=unfinished,
    )

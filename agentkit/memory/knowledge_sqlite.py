"""Documents in one SQLite file, which sessions may share. Knows SQL; `sqlite_file` knows the file.

FTS5 says which passages hold a word; which of them fit best is `knowledge_ranking`'s to say.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from anyio import to_thread

from agentkit.cleared import Cleared
from agentkit.errors import StoreError
from agentkit.memory.knowledge import (
    Document,
    DocumentInfo,
    Embedder,
    KnowledgeHit,
    StoredDocument,
    check_limit,
)
from agentkit.memory.knowledge_passages import index_words, query_words
from agentkit.memory.knowledge_ranking import Matches, best_hits, by_meaning, candidates
from agentkit.memory.knowledge_records import (
    DocumentRecord,
    PassageRow,
    decode_info,
    decode_text,
    embed_document,
    embed_query,
    encode_document,
)
from agentkit.memory.knowledge_sqlite_tables import make_tables
from agentkit.memory.rules import check_prefix
from agentkit.memory.sqlite_file import SQLiteFile

T = TypeVar("T")

_INFO: Final = "id, about, added"


class SQLiteKnowledge:
    """Documents in a file; see `KnowledgeStore`. The file may be that of a `SQLiteStore`.

    A store is for one event loop at a time. `busy_timeout` is how many seconds an operation waits for another
    process to end its transaction.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, embedder: Embedder | None = None, busy_timeout: float = 5.0
    ) -> None:
        self._file = SQLiteFile(path, busy_timeout=busy_timeout)
        self._embedder = embedder
        self._has_tables = False

    @property
    def path(self) -> Path:
        """The file, as an absolute path."""
        return self._file.path

    async def add(self, tenant: str, document: Cleared[Document]) -> str:
        """See `KnowledgeStore.add`."""
        check_prefix(tenant)
        record = await to_thread.run_sync(encode_document, tenant, document)
        vectors = await embed_document(self._embedder, document.value)

        def work(connection: sqlite3.Connection) -> None:
            key = _tenant_key(connection, tenant) or _insert_tenant(connection, tenant)
            document_key = _document_key(connection, key, record.id)
            if document_key is None:
                document_key = _insert_document(connection, key, record)
            if self._embedder is not None:
                _insert_vectors(connection, key, document_key, self._embedder.name, vectors)

        await self._write(work)
        return record.id

    async def get(self, tenant: str, document_id: str) -> StoredDocument | None:
        """See `KnowledgeStore.get`."""
        check_prefix(tenant)
        query = f"SELECT {_INFO}, text FROM knowledge_documents WHERE tenant = ? AND id = ?"  # noqa: S608

        def work(connection: sqlite3.Connection) -> StoredDocument | None:
            key = _tenant_key(connection, tenant)
            row = connection.execute(query, (key, document_id)).fetchone()
            return StoredDocument(info=_info(*row[:-1]), text=decode_text(row[-1])) if row else None

        return await self._read(work)

    async def delete(self, tenant: str, document_id: str) -> bool:
        """See `KnowledgeStore.delete`."""
        check_prefix(tenant)

        def work(connection: sqlite3.Connection) -> bool:
            key = _tenant_key(connection, tenant)
            document_key = key and _document_key(connection, key, document_id)
            if document_key is None:
                return False
            _delete_document(connection, document_key)
            return True

        await self._prepare()
        return await self._file.erase(work)

    async def list(self, tenant: str) -> tuple[DocumentInfo, ...]:
        """See `KnowledgeStore.list`."""
        check_prefix(tenant)
        query = f"SELECT {_INFO} FROM knowledge_documents WHERE tenant = ? ORDER BY key DESC"  # noqa: S608

        def work(connection: sqlite3.Connection) -> tuple[DocumentInfo, ...]:
            rows = connection.execute(query, (_tenant_key(connection, tenant),))
            return tuple(_info(*row) for row in rows)

        return await self._read(work)

    async def search(self, tenant: str, query: str, *, limit: int = 5) -> tuple[KnowledgeHit, ...]:
        """See `KnowledgeStore.search`."""
        check_prefix(tenant)
        check_limit(limit)
        words = query_words(query)
        vector = await embed_query(self._embedder, query)

        def work(connection: sqlite3.Connection) -> tuple[KnowledgeHit, ...]:
            key = _tenant_key(connection, tenant)
            if key is None:
                return ()
            matches = _matches(connection, key, words)
            near = _near(connection, key, self._embedder, vector)
            rows = _passages(connection, key, {*candidates(matches), *near})
            return best_hits(rows, matches, near, limit=limit)

        return await self._read(work)

    async def close(self) -> None:
        """See `KnowledgeStore.close`."""
        await self._file.close()

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._prepare()
        return await self._file.read(work)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._prepare()
        return await self._file.write(work)

    async def _prepare(self) -> None:
        if not self._has_tables:
            await self._file.write(make_tables)
            self._has_tables = True


def _tenant_key(connection: sqlite3.Connection, tenant: str) -> int | None:
    row = connection.execute("SELECT key FROM knowledge_tenants WHERE name = ?", (tenant,)).fetchone()
    return int(row[0]) if row else None


def _insert_tenant(connection: sqlite3.Connection, tenant: str) -> int:
    return _inserted(connection, "INSERT INTO knowledge_tenants (name) VALUES (?)", (tenant,))


def _document_key(connection: sqlite3.Connection, tenant: int, document_id: str) -> int | None:
    query = "SELECT key FROM knowledge_documents WHERE tenant = ? AND id = ?"
    row = connection.execute(query, (tenant, document_id)).fetchone()
    return int(row[0]) if row else None


def _insert_document(connection: sqlite3.Connection, tenant: int, record: DocumentRecord) -> int:
    added = datetime.now(UTC).isoformat(timespec="microseconds")
    document = _inserted(
        connection,
        "INSERT INTO knowledge_documents (tenant, id, about, text, added) VALUES (?, ?, ?, ?, ?)",
        (tenant, record.id, record.about, record.text, added),
    )
    for passage in record.passages:
        key = _inserted(
            connection,
            "INSERT INTO knowledge_passages (tenant, document, text, words, num_words) VALUES (?, ?, ?, ?, ?)",
            (tenant, document, passage.text, passage.words, len(passage.words.split())),
        )
        connection.execute(
            "INSERT INTO knowledge_words (rowid, words) VALUES (?, ?)",
            (key, index_words(tenant, passage.words)),
        )
    return document


def _insert_vectors(
    connection: sqlite3.Connection, tenant: int, document: int, embedder: str, vectors: Sequence[bytes]
) -> None:
    query = "SELECT key FROM knowledge_passages WHERE document = ? ORDER BY key"
    passages = [key for (key,) in connection.execute(query, (document,))]
    connection.executemany(
        "INSERT OR IGNORE INTO knowledge_vectors (tenant, embedder, passage, vector) VALUES (?, ?, ?, ?)",
        [(tenant, embedder, passage, vector) for passage, vector in zip(passages, vectors, strict=True)],
    )


def _delete_document(connection: sqlite3.Connection, document: int) -> None:
    query = "SELECT key, tenant, words FROM knowledge_passages WHERE document = ?"
    for key, tenant, words in connection.execute(query, (document,)).fetchall():
        connection.execute(
            "INSERT INTO knowledge_words (knowledge_words, rowid, words) VALUES ('delete', ?, ?)",
            (key, index_words(tenant, words)),
        )
        connection.execute("DELETE FROM knowledge_vectors WHERE passage = ?", (key,))
    connection.execute("DELETE FROM knowledge_passages WHERE document = ?", (document,))
    connection.execute("DELETE FROM knowledge_documents WHERE key = ?", (document,))
    # Deleted words stay in the index's older parts until these are merged.
    connection.execute("INSERT INTO knowledge_words (knowledge_words) VALUES ('optimize')")


def _matches(connection: sqlite3.Connection, tenant: int, words: Sequence[str]) -> Matches:
    statistics = "SELECT count(*), coalesce(avg(num_words), 0) FROM knowledge_passages WHERE tenant = ?"
    num_passages, average_words = connection.execute(statistics, (tenant,)).fetchone()
    query = "SELECT rowid FROM knowledge_words WHERE knowledge_words MATCH ?"
    found = {
        word: [key for (key,) in connection.execute(query, (f'"{index_words(tenant, word)}"',))]
        for word in words
    }
    return Matches(passages_by_word=found, num_passages=num_passages, average_words=average_words)


def _near(
    connection: sqlite3.Connection, tenant: int, embedder: Embedder | None, vector: bytes | None
) -> list[int]:
    if embedder is None or vector is None:
        return []
    query = "SELECT passage, vector FROM knowledge_vectors WHERE tenant = ? AND embedder = ?"
    stored = dict(connection.execute(query, (tenant, embedder.name)))
    return by_meaning(vector, stored, min_similarity=embedder.min_similarity)


def _passages(connection: sqlite3.Connection, tenant: int, keys: Collection[int]) -> dict[int, PassageRow]:
    query = f"""
        SELECT passages.text, words, {_INFO} FROM knowledge_passages AS passages
        JOIN knowledge_documents AS documents ON documents.key = document
        WHERE passages.key = ? AND documents.tenant = ?
    """  # noqa: S608
    return {key: _row(*connection.execute(query, (key, tenant)).fetchone()) for key in keys}


def _row(text: bytes, words: str, document_id: str, about: bytes, added: str) -> PassageRow:
    return PassageRow(text=text, words=words, document_id=document_id, about=about, added=_time(added))


def _info(document_id: str, about: bytes, added: str) -> DocumentInfo:
    return decode_info(document_id, about, _time(added))


def _time(added: str) -> datetime:
    try:
        return datetime.fromisoformat(added)
    except (TypeError, ValueError) as exc:
        raise StoreError("the time of a stored document cannot be read; restore a backup") from exc


def _inserted(connection: sqlite3.Connection, statement: str, fields: Sequence[object]) -> int:
    key = connection.execute(statement, fields).lastrowid
    if key is None:
        raise StoreError("a row of the knowledge was not written")
    return key

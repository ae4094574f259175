"""Documents in PostgreSQL, beside sessions or by themselves. Knows SQL; `postgres_database` knows connections.

The server's index says which passages hold a word; which of them fit best is `knowledge_ranking`'s to say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from anyio import to_thread
from psycopg import AsyncCursor

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
from agentkit.memory.knowledge_postgres_tables import make_tables
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
from agentkit.memory.postgres_address import PostgresAddress
from agentkit.memory.postgres_database import PostgresDatabase, Transaction
from agentkit.memory.rules import check_prefix

T = TypeVar("T")

_INSERT_DOCUMENT = """
INSERT INTO knowledge_documents (tenant, id, about, text, added) VALUES (%s, %s, %s, %s, %s) RETURNING key
"""

_INSERT_PASSAGES = """
INSERT INTO knowledge_passages (tenant, document, text, words, num_words, lexemes)
SELECT %(tenant)s, %(document)s, text, words, num_words, array_to_tsvector(string_to_array(indexed, ' '))
FROM unnest(%(texts)s::bytea[], %(words)s::text[], %(counts)s::integer[], %(indexed)s::text[])
    WITH ORDINALITY AS passages (text, words, num_words, indexed, position)
ORDER BY position
"""

_INSERT_VECTORS = """
INSERT INTO knowledge_vectors (tenant, embedder, passage, vector)
SELECT %(tenant)s, %(embedder)s, key, vector
FROM (
    SELECT key, row_number() OVER (ORDER BY key) AS position
    FROM knowledge_passages WHERE document = %(document)s
) AS passages
JOIN unnest(%(vectors)s::bytea[]) WITH ORDINALITY AS made (vector, position) USING (position)
ON CONFLICT DO NOTHING
"""

# A word of ours has no quote in it.
_MATCHES = """
SELECT word, array_agg(key) FROM unnest(%s::text[]) AS word
JOIN knowledge_passages ON lexemes @@ ('''' || word || '''')::tsquery GROUP BY word
"""

_PASSAGES = """
SELECT passages.key, passages.text, words, id, about, added FROM knowledge_passages AS passages
JOIN knowledge_documents AS documents ON documents.key = document
WHERE passages.key = ANY (%s) AND documents.tenant = %s
"""


class PostgresKnowledge:
    """Documents in a database; see `KnowledgeStore`. The schema may be that of a `PostgresStore`.

    A store is for one event loop at a time, with at most `pool_size` connections.
    """

    def __init__(
        self,
        url: str,
        *,
        embedder: Embedder | None = None,
        schema: str = "agentkit",
        pool_size: int = 4,
        pool_timeout: float = 30.0,
        reconnect_timeout: float = 10.0,
        statement_timeout: float = 30.0,
    ) -> None:
        self._database = PostgresDatabase(
            PostgresAddress.parse(url),
            schema=schema,
            pool_size=pool_size,
            pool_timeout=pool_timeout,
            reconnect_timeout=reconnect_timeout,
            statement_timeout=statement_timeout,
        )
        self._embedder = embedder
        self._has_tables = False

    async def add(self, tenant: str, document: Cleared[Document]) -> str:
        """See `KnowledgeStore.add`."""
        check_prefix(tenant)
        record = await to_thread.run_sync(encode_document, tenant, document)
        vectors = await embed_document(self._embedder, document.value)

        async def work(transaction: Transaction) -> None:
            await transaction.lock("knowledge", tenant)
            key = await _tenant_key(transaction, tenant) or await _insert_tenant(transaction, tenant)
            document_key = await _document_key(transaction, key, record.id)
            if document_key is None:
                document_key = await _insert_document(transaction, key, record)
            if self._embedder is not None:
                await _insert_vectors(transaction, key, document_key, self._embedder.name, vectors)

        await self._write(work)
        return record.id

    async def get(self, tenant: str, document_id: str) -> StoredDocument | None:
        """See `KnowledgeStore.get`."""
        check_prefix(tenant)

        async def work(transaction: Transaction) -> StoredDocument | None:
            query = "SELECT id, about, added, text FROM knowledge_documents WHERE tenant = %s AND id = %s"
            key = await _tenant_key(transaction, tenant)
            row = await (await transaction.execute(query, (key, document_id))).fetchone()
            return StoredDocument(info=decode_info(*row[:-1]), text=decode_text(row[-1])) if row else None

        return await self._read(work)

    async def delete(self, tenant: str, document_id: str) -> bool:
        """See `KnowledgeStore.delete`. The server frees the space of what is gone at its next vacuum."""
        check_prefix(tenant)

        async def work(transaction: Transaction) -> bool:
            await transaction.lock("knowledge", tenant)
            statement = "DELETE FROM knowledge_documents WHERE tenant = %s AND id = %s"
            key = await _tenant_key(transaction, tenant)
            deleted = (await transaction.execute(statement, (key, document_id))).rowcount > 0
            return deleted or transaction.again  # an earlier attempt, whose commit nobody heard of

        return await self._write(work)

    async def list(self, tenant: str) -> tuple[DocumentInfo, ...]:
        """See `KnowledgeStore.list`."""
        check_prefix(tenant)

        async def work(transaction: Transaction) -> tuple[DocumentInfo, ...]:
            query = "SELECT id, about, added FROM knowledge_documents WHERE tenant = %s ORDER BY key DESC"
            rows = await transaction.execute(query, (await _tenant_key(transaction, tenant),))
            return tuple([decode_info(*row) async for row in rows])

        return await self._read(work)

    async def search(self, tenant: str, query: str, *, limit: int = 5) -> tuple[KnowledgeHit, ...]:
        """See `KnowledgeStore.search`."""
        check_prefix(tenant)
        check_limit(limit)
        words = query_words(query)
        vector = await embed_query(self._embedder, query)

        async def work(transaction: Transaction) -> tuple[KnowledgeHit, ...]:
            key = await _tenant_key(transaction, tenant)
            if key is None:
                return ()
            matches = await _matches(transaction, key, words)
            near = await _near(transaction, key, self._embedder, vector)
            worth_reading = await to_thread.run_sync(candidates, matches)
            rows = await _passages(transaction, key, {*worth_reading, *near})
            return await to_thread.run_sync(partial(best_hits, rows, matches, near, limit=limit))

        return await self._read(work)

    async def close(self) -> None:
        """See `KnowledgeStore.close`."""
        await self._database.close()

    async def _read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        await self._prepare()
        return await self._database.read(work)

    async def _write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        await self._prepare()
        return await self._database.write(work)

    async def _prepare(self) -> None:
        if not self._has_tables:
            await self._database.write(make_tables)
            self._has_tables = True


async def _tenant_key(transaction: Transaction, tenant: str) -> int | None:
    found = await transaction.execute("SELECT key FROM knowledge_tenants WHERE name = %s", (tenant,))
    row = await found.fetchone()
    return int(row[0]) if row else None


async def _insert_tenant(transaction: Transaction, tenant: str) -> int:
    return await _inserted(
        await transaction.execute("INSERT INTO knowledge_tenants (name) VALUES (%s) RETURNING key", (tenant,))
    )


async def _document_key(transaction: Transaction, tenant: int, document_id: str) -> int | None:
    query = "SELECT key FROM knowledge_documents WHERE tenant = %s AND id = %s"
    row = await (await transaction.execute(query, (tenant, document_id))).fetchone()
    return int(row[0]) if row else None


async def _insert_document(transaction: Transaction, tenant: int, record: DocumentRecord) -> int:
    fields = (tenant, record.id, record.about, record.text, datetime.now(UTC))
    document = await _inserted(await transaction.execute(_INSERT_DOCUMENT, fields))
    values = {
        "tenant": tenant,
        "document": document,
        "texts": [passage.text for passage in record.passages],
        "words": [passage.words for passage in record.passages],
        "counts": [len(passage.words.split()) for passage in record.passages],
        "indexed": [index_words(tenant, passage.words) for passage in record.passages],
    }
    await transaction.execute(_INSERT_PASSAGES, values)
    return document


async def _insert_vectors(
    transaction: Transaction, tenant: int, document: int, embedder: str, vectors: Sequence[bytes]
) -> None:
    values = {"tenant": tenant, "document": document, "embedder": embedder, "vectors": list(vectors)}
    await transaction.execute(_INSERT_VECTORS, values)


async def _matches(transaction: Transaction, tenant: int, words: Sequence[str]) -> Matches:
    statistics = (
        "SELECT count(*), coalesce(avg(num_words), 0)::float8 FROM knowledge_passages WHERE tenant = %s"
    )
    row = await (await transaction.execute(statistics, (tenant,))).fetchone()
    num_passages, average_words = row or (0, 0.0)
    indexed = {index_words(tenant, word): word for word in words}
    found = {
        indexed[word]: keys async for word, keys in await transaction.execute(_MATCHES, (list(indexed),))
    }
    return Matches(passages_by_word=found, num_passages=num_passages, average_words=average_words)


async def _near(
    transaction: Transaction, tenant: int, embedder: Embedder | None, vector: bytes | None
) -> list[int]:
    if embedder is None or vector is None:
        return []
    query = "SELECT passage, vector FROM knowledge_vectors WHERE tenant = %s AND embedder = %s"
    stored = dict(await (await transaction.execute(query, (tenant, embedder.name))).fetchall())
    return await to_thread.run_sync(
        partial(by_meaning, vector, stored, min_similarity=embedder.min_similarity)
    )


async def _passages(transaction: Transaction, tenant: int, keys: Collection[int]) -> dict[int, PassageRow]:
    rows = await transaction.execute(_PASSAGES, (list(keys), tenant))
    return {
        key: PassageRow(text=text, words=words, document_id=document_id, about=about, added=added)
        async for key, text, words, document_id, about, added in rows
    }


async def _inserted(cursor: AsyncCursor[tuple[Any, ...]]) -> int:
    row = await cursor.fetchone()
    if row is None:
        raise StoreError("a row of the knowledge was not written")
    return int(row[0])

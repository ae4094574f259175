"""The tables of documents in PostgreSQL, beside those of sessions. Knows SQL, no store."""

from __future__ import annotations

from typing import Final, LiteralString

from agentkit.memory.knowledge_records import FORMAT_VERSION, check_format
from agentkit.memory.postgres_database import Transaction

# `lexemes` hold the words as we part and fold them, so no text search configuration has a say in it. Passages keep
# what is long out of the row: a search visits many rows and reads few texts. New ones go into the index at once: no
# search has to read a list of those that wait.
_TABLES: Final[tuple[LiteralString, ...]] = (
    """CREATE TABLE IF NOT EXISTS knowledge_tenants (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE
    )""",
    """CREATE TABLE IF NOT EXISTS knowledge_documents (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant bigint NOT NULL REFERENCES knowledge_tenants,
        id text COLLATE "C" NOT NULL, about bytea NOT NULL, text bytea NOT NULL, added timestamptz NOT NULL,
        UNIQUE (tenant, id)
    )""",
    """CREATE TABLE IF NOT EXISTS knowledge_passages (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant bigint NOT NULL,
        document bigint NOT NULL REFERENCES knowledge_documents ON DELETE CASCADE, text bytea NOT NULL,
        words text NOT NULL, num_words integer NOT NULL, lexemes tsvector NOT NULL
    ) WITH (toast_tuple_target = 128)""",
    "CREATE INDEX IF NOT EXISTS knowledge_passages_document ON knowledge_passages (document)",
    "CREATE INDEX IF NOT EXISTS knowledge_passages_tenant ON knowledge_passages (tenant, num_words)",
    """CREATE INDEX IF NOT EXISTS knowledge_passages_lexemes ON knowledge_passages
        USING gin (lexemes) WITH (fastupdate = off)""",
    """CREATE TABLE IF NOT EXISTS knowledge_vectors (
        tenant bigint NOT NULL, embedder text NOT NULL,
        passage bigint NOT NULL REFERENCES knowledge_passages ON DELETE CASCADE, vector bytea NOT NULL,
        PRIMARY KEY (tenant, embedder, passage)
    )""",
    "CREATE INDEX IF NOT EXISTS knowledge_vectors_passage ON knowledge_vectors (passage)",
)


async def make_tables(transaction: Transaction) -> None:
    """Make the tables where there are none.

    Raises:
        StoreError: if they are of another version.
    """
    await transaction.lock("schema", "knowledge")
    await transaction.execute("CREATE TABLE IF NOT EXISTS knowledge_version (version integer NOT NULL)")
    row = await (await transaction.execute("SELECT version FROM knowledge_version")).fetchone()
    if row is None:
        await transaction.execute("INSERT INTO knowledge_version VALUES (%s)", (FORMAT_VERSION,))
    else:
        check_format(row[0])
    for statement in _TABLES:
        await transaction.execute(statement)

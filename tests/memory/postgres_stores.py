"""Stores in PostgreSQL that a test opens, and what is left of them in the tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agentkit.memory import StoredSession
from agentkit.memory.postgres import PostgresStore
from agentkit.testing.store_samples import HEADER, turns
from tests.postgres_server import PostgresServer

TABLES = ("sessions", "entries", "archives", "journal")


@asynccontextmanager
async def opened(url: str, schema: str, **options: Any) -> AsyncIterator[PostgresStore]:
    """A store that is closed after the block."""
    store = PostgresStore(url, schema=schema, **options)
    try:
        yield store
    finally:
        await store.close()


async def loaded(store: PostgresStore, session_id: str) -> StoredSession:
    """A session that must be there."""
    stored = await store.load(session_id)
    assert stored is not None
    return stored


async def commit(store: PostgresStore, session_id: str, number: int) -> int:
    """Commit one turn to whatever the session holds."""
    version = await store.version(session_id)
    entries = await turns(number)
    return await store.commit(session_id, expected_version=version, header=HEADER, entries=entries)


def row_counts(server: PostgresServer, schema: str) -> dict[str, object]:
    """The number of rows in each table of content."""
    return {table: server.execute(f"SELECT count(*) FROM {schema}.{table}")[0][0] for table in TABLES}

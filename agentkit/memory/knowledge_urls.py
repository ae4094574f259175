"""A knowledge store's URL -> the store, in the file or database that `open_store` would keep sessions in."""

from __future__ import annotations

from importlib import import_module

from agentkit.errors import ConfigurationError
from agentkit.memory.knowledge import Embedder, KnowledgeStore
from agentkit.memory.knowledge_sqlite import SQLiteKnowledge
from agentkit.memory.sqlite import SQLiteStore
from agentkit.memory.urls import open_store


def open_knowledge(url: str | KnowledgeStore, *, embedder: Embedder | None = None) -> KnowledgeStore:
    """Return the knowledge store that a URL names; a store is returned as it is.

    It is opened by its first operation.

    Raises:
        ConfigurationError: if the URL names no store that keeps documents.
    """
    if not isinstance(url, str):
        if not isinstance(url, KnowledgeStore):
            raise ConfigurationError(f"knowledge is a URL or a KnowledgeStore, got {type(url).__name__}")
        return url
    if url.partition("://")[0].lower() in ("postgres", "postgresql"):
        # Imported here: psycopg is an extra.
        postgres = import_module("agentkit.memory.knowledge_postgres")
        store: KnowledgeStore = postgres.PostgresKnowledge(url, embedder=embedder)
        return store
    sessions = open_store(url)
    if not isinstance(sessions, SQLiteStore):
        raise ConfigurationError(
            f"{url!r} keeps no documents; write sqlite:///relative.db or postgresql://user@host/database"
        )
    return SQLiteKnowledge(sessions.path, embedder=embedder)

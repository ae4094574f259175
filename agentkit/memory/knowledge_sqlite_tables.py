"""The tables of documents in a SQLite file, beside those of sessions. Knows SQL, no store."""

from __future__ import annotations

import sqlite3
from typing import Final

from agentkit.errors import StoreError
from agentkit.memory.knowledge_records import FORMAT_VERSION, check_format

# The index holds no text of its own, no positions and no sizes. Its tokenizer parts at spaces and changes no
# word of ours: case and accents are gone by then.
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS knowledge_tenants (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE IF NOT EXISTS knowledge_documents (
        key INTEGER PRIMARY KEY, tenant INTEGER NOT NULL REFERENCES knowledge_tenants (key), id TEXT NOT NULL,
        about BLOB NOT NULL, text BLOB NOT NULL, added TEXT NOT NULL, UNIQUE (tenant, id)
    )""",
    """CREATE TABLE IF NOT EXISTS knowledge_passages (
        key INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL,
        document INTEGER NOT NULL REFERENCES knowledge_documents (key), text BLOB NOT NULL, words TEXT NOT NULL,
        num_words INTEGER NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS knowledge_passages_document ON knowledge_passages (document)",
    "CREATE INDEX IF NOT EXISTS knowledge_passages_tenant ON knowledge_passages (tenant, num_words)",
    """CREATE TABLE IF NOT EXISTS knowledge_vectors (
        tenant INTEGER NOT NULL, embedder TEXT NOT NULL, passage INTEGER NOT NULL REFERENCES knowledge_passages (key),
        vector BLOB NOT NULL, PRIMARY KEY (tenant, embedder, passage)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS knowledge_vectors_passage ON knowledge_vectors (passage)",
    """CREATE VIRTUAL TABLE IF NOT EXISTS knowledge_words USING fts5 (
        words, content = '', tokenize = 'ascii', detail = none, columnsize = 0
    )""",
)


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none. Needs a transaction.

    Raises:
        StoreError: if they are of another version, or SQLite has no FTS5.
    """
    connection.execute("CREATE TABLE IF NOT EXISTS knowledge_version (version INTEGER NOT NULL)")
    row = connection.execute("SELECT version FROM knowledge_version").fetchone()
    if row is None:
        connection.execute("INSERT INTO knowledge_version (version) VALUES (?)", (FORMAT_VERSION,))
    else:
        check_format(row[0])
    for statement in _TABLES:
        create_table(connection, statement)


def create_table(connection: sqlite3.Connection, statement: str) -> None:
    """Create one table.

    Raises:
        StoreError: if it needs a module that this Python's SQLite was built without.
    """
    try:
        connection.execute(statement)
    except sqlite3.OperationalError as exc:
        if "no such module" not in str(exc):
            raise
        raise StoreError(
            f"the SQLite {sqlite3.sqlite_version} of this Python has {exc}; "
            "use a Python whose SQLite has it, or PostgreSQL"
        ) from exc

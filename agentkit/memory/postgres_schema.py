"""The tables of a store in PostgreSQL, by version, and the way from each version to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, LiteralString

from psycopg import AsyncConnection, sql

from agentkit.errors import StoreError

Steps = Sequence[Sequence[LiteralString]]

# Entries form a tree. A session is a path of it, from its head up to an entry without a parent; a fork is
# another session with the same head, or one further up. Sessions that may share entries have the same `tree`.
# `token` names the write that a row is from: whoever lost the connection at the commit finds out by it.
_VERSION_1: Final = (
    "CREATE SEQUENCE versions",
    "CREATE SEQUENCE entry_keys",
    """CREATE TABLE entries (
        key bigint PRIMARY KEY, parent bigint REFERENCES entries, depth integer NOT NULL, turn integer NOT NULL,
        generated boolean NOT NULL, message bytea NOT NULL, ids bytea NOT NULL, checksum bigint NOT NULL
    )""",
    "CREATE INDEX entries_parent ON entries (parent)",
    """CREATE TABLE sessions (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE,
        version bigint NOT NULL, token uuid, tree uuid NOT NULL, header text NOT NULL,
        head bigint REFERENCES entries, entries integer NOT NULL, turns integer NOT NULL,
        created timestamptz NOT NULL, updated timestamptz NOT NULL
    )""",
    "CREATE INDEX sessions_head ON sessions (head)",
    """CREATE TABLE archives (
        session bigint NOT NULL REFERENCES sessions ON DELETE CASCADE, position integer NOT NULL,
        head bigint REFERENCES entries, entries integer NOT NULL, PRIMARY KEY (session, position)
    )""",
    "CREATE INDEX archives_head ON archives (head)",
    """CREATE TABLE journal (
        session bigint NOT NULL REFERENCES sessions ON DELETE CASCADE, position integer NOT NULL,
        kind text NOT NULL, body bytea NOT NULL, checksum bigint NOT NULL, PRIMARY KEY (session, position)
    )""",
    """CREATE TABLE audit (
        tenant text COLLATE "C" NOT NULL, sequence bigint NOT NULL, time text NOT NULL, session_id text NOT NULL,
        kind text NOT NULL, details text NOT NULL, previous text NOT NULL, digest text NOT NULL,
        token uuid NOT NULL, PRIMARY KEY (tenant, sequence)
    )""",
)

STEPS: Final[Steps] = (_VERSION_1,)
"""What leads to version 1, from there to version 2, and so on."""


def lock_key(schema: str, kind: str, name: str) -> int:
    """Return the key of an advisory lock: 64 bits that follow from what is locked."""
    digest = hashlib.blake2b(f"agentkit {schema} {kind} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


async def prepare(connection: AsyncConnection[Any], *, schema: str, name: str, steps: Steps = STEPS) -> None:
    """Make the tables, or bring those of an older version to the last one: all of them or none.

    Raises:
        StoreError: if they are of a newer version, or the schema is another application's.
    """
    version = await _version(connection, schema)
    if version < len(steps):
        async with connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock(%s)", (lock_key(schema, "schema", "version"),)
            )
            version = await _version(connection, schema)
            if version == 0:
                await _make_schema(connection, schema, name)
            for step in steps[version:]:
                for statement in step:
                    await connection.execute(statement)
            if version < len(steps):
                await connection.execute("UPDATE agentkit_format SET version = %s", (len(steps),))
    if version > len(steps):
        raise StoreError(
            f"{name} has format version {version} in schema {schema!r}, this agentkit reads version "
            f"{len(steps)}; use the agentkit that wrote it or name another schema"
        )


async def _version(connection: AsyncConnection[Any], schema: str) -> int:
    """Return the version of the tables, 0 where there are none."""
    # A look into the catalog sees what another worker has just made; to_regclass may remember that it was not there.
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = 'agentkit_format'"
    found = await connection.execute(query, (schema,))
    if await found.fetchone() == (0,):
        return 0
    row = await (await connection.execute("SELECT version FROM agentkit_format")).fetchone()
    return int(row[0]) if row else 0


async def _make_schema(connection: AsyncConnection[Any], schema: str, name: str) -> None:
    query = "SELECT count(relname) FROM pg_namespace LEFT JOIN pg_class ON relnamespace = pg_namespace.oid "
    found = await connection.execute(query + "WHERE nspname = %s GROUP BY nspname", (schema,))
    num_relations = await found.fetchone()
    if num_relations is not None and num_relations != (0,):
        raise StoreError(
            f"schema {schema!r} of {name} has tables of another application; name another schema"
        )
    if num_relations is None:
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    await connection.execute("CREATE TABLE agentkit_format (version integer NOT NULL)")
    await connection.execute("INSERT INTO agentkit_format VALUES (0)")

"""The tables are made once, by whoever comes first, and brought from version to version as a whole."""

from __future__ import annotations

import anyio
import pytest
from psycopg import AsyncConnection, ProgrammingError

from agentkit.errors import StoreError
from agentkit.memory.postgres_schema import STEPS, Steps, lock_key, prepare
from agentkit.testing.store_samples import as_stored, turns
from tests.memory.postgres_stores import commit, loaded, opened
from tests.postgres_server import PostgresServer

LATER: Steps = (*STEPS, ("ALTER TABLE sessions ADD COLUMN note text", "CREATE TABLE later (key bigint)"))
BROKEN: Steps = (*STEPS, ("CREATE TABLE later (key bigint)", "ALTER TABLE missing ADD COLUMN note text"))


async def prepare_with(server: PostgresServer, schema: str, steps: Steps) -> None:
    options = f"options=-c%20search_path%3D{schema}"
    connection = await AsyncConnection.connect(server.url(options=options), autocommit=True)
    async with connection:
        await prepare(connection, schema=schema, name="the database", steps=steps)


def tables(server: PostgresServer, schema: str) -> set[object]:
    return {
        name for (name,) in server.execute(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")
    }


def version(server: PostgresServer, schema: str) -> list[tuple[object, ...]]:
    return server.execute(f"SELECT version FROM {schema}.agentkit_format")


async def test_stores_that_come_at_once_make_the_tables_once(
    postgres_server: PostgresServer, postgres_schema: str
):
    async def use(number: int) -> None:
        async with opened(postgres_server.url(), postgres_schema) as store:
            await commit(store, f"s/{number}", 1)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(use, number)
    assert version(postgres_server, postgres_schema) == [(len(STEPS),)]


async def test_tables_of_an_older_version_are_brought_to_the_last_one_with_their_rows(
    postgres_server: PostgresServer, postgres_schema: str
):
    async with opened(postgres_server.url(), postgres_schema) as store:
        await commit(store, "s", 1)
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(prepare_with, postgres_server, postgres_schema, LATER)
        assert version(postgres_server, postgres_schema) == [(len(LATER),)]
        assert "later" in tables(postgres_server, postgres_schema)
        assert (await loaded(store, "s")).entries == as_stored(await turns(1))


async def test_a_step_that_fails_changes_nothing(postgres_server: PostgresServer, postgres_schema: str):
    async with opened(postgres_server.url(), postgres_schema) as store:
        await commit(store, "s", 1)
        with pytest.raises(ProgrammingError):
            await prepare_with(postgres_server, postgres_schema, BROKEN)
        assert version(postgres_server, postgres_schema) == [(len(STEPS),)]
        assert "later" not in tables(postgres_server, postgres_schema)
        await commit(store, "s", 2)


async def test_tables_of_a_newer_version_are_refused_with_both_numbers(
    postgres_server: PostgresServer, postgres_schema: str
):
    await prepare_with(postgres_server, postgres_schema, LATER)
    async with opened(postgres_server.url(), postgres_schema) as store:
        with pytest.raises(StoreError) as caught:
            await store.list()
    assert (
        f"has format version {len(LATER)} in schema '{postgres_schema}', this agentkit reads version "
        in str(caught.value)
    )


async def test_a_schema_of_another_application_is_refused_and_left_alone(
    postgres_server: PostgresServer, postgres_schema: str
):
    postgres_server.execute(
        f"CREATE SCHEMA {postgres_schema}", f"CREATE TABLE {postgres_schema}.birds (name text)"
    )
    async with opened(postgres_server.url(), postgres_schema) as store:
        with pytest.raises(StoreError, match="has tables of another application; name another schema"):
            await store.list()
    assert tables(postgres_server, postgres_schema) == {"birds"}


async def test_an_empty_schema_that_an_administrator_made_is_used(
    postgres_server: PostgresServer, postgres_schema: str
):
    postgres_server.execute(f"CREATE SCHEMA {postgres_schema}")
    async with opened(postgres_server.url(), postgres_schema) as store:
        await commit(store, "s", 1)


def test_locks_of_different_things_have_different_keys():
    keys = {
        lock_key(schema, kind, name)
        for schema in ("agentkit", "other")
        for kind in ("session", "tree", "audit")
        for name in ("", "s", "t", "a/s")
    }
    assert len(keys) == 24
    assert all(-(2**63) <= key < 2**63 for key in keys)

"""The store in PostgreSQL passes the conformance suite, and many tasks, loops and stores share a database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest

from agentkit.errors import ConfigurationError, StoreError
from agentkit.memory import AuditEvent, Store, open_store, verify_chain
from agentkit.memory.postgres import PostgresStore
from agentkit.testing.store_conformance import StoreConformance
from agentkit.testing.store_samples import HEADER, as_stored, journal_of, turns
from tests.memory.postgres_stores import TABLES, commit, loaded, opened, row_counts
from tests.postgres_server import PostgresServer


class TestPostgresStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def database(self, postgres_server: PostgresServer) -> Iterator[None]:
        """One schema for all tests, emptied after each: making the tables takes longer than most tests."""
        self.url = postgres_server.url()
        yield
        everything = "; ".join(f"DELETE FROM conformance.{table}" for table in (*TABLES, "audit"))
        postgres_server.execute(everything)

    async def make_store(self, folder: Path) -> Store:
        store = PostgresStore(self.url, schema="conformance")
        await store.list()
        return store


async def test_a_url_opens_the_store_in_the_schema_agentkit(postgres_server: PostgresServer):
    store = open_store(postgres_server.url())
    await store.commit("url/1", expected_version=0, header=HEADER, entries=await turns(1))
    await store.close()
    assert postgres_server.execute("SELECT id FROM agentkit.sessions") == [("url/1",)]


async def test_what_one_store_wrote_another_reads(postgres_server: PostgresServer, postgres_schema: str):
    url = postgres_server.url()
    async with opened(url, postgres_schema) as store, opened(url, postgres_schema) as other:
        version = await commit(store, "s", 1)
        stored = await loaded(other, "s")
        assert (stored.version, stored.entries) == (version, as_stored(await turns(1)))


async def test_schemas_of_one_database_share_nothing(postgres_server: PostgresServer, postgres_schema: str):
    url, other_schema = postgres_server.url(), f"test_{uuid4().hex}"
    async with opened(url, postgres_schema) as store, opened(url, other_schema) as other:
        await commit(store, "s", 1)
        await store.note("s", AuditEvent(kind="noted"))
        async with store.hold("s"), other.hold("s"):
            assert await other.list() == []
            assert await other.audit("") == ()
    postgres_server.execute(f"DROP SCHEMA {other_schema} CASCADE")


def test_a_store_serves_one_event_loop_after_another(postgres_server: PostgresServer, postgres_schema: str):
    store = PostgresStore(postgres_server.url(), schema=postgres_schema)

    async def hold_and_commit(number: int) -> None:
        async with store.hold("s"):
            await commit(store, "s", number)

    for number in (1, 2, 3):
        asyncio.run(hold_and_commit(number))
    assert [info.turns for info in asyncio.run(store.list())] == [3]
    asyncio.run(store.close())


async def test_sixty_four_tasks_share_a_few_connections(
    postgres_server: PostgresServer, postgres_schema: str
):
    url = postgres_server.url(options=f"application_name={postgres_schema}")
    async with opened(url, postgres_schema, pool_size=3) as store:

        async def work(number: int) -> None:
            session_id = f"tenant/{number}"
            async with store.hold(session_id):
                for turn in (1, 2, 3):
                    version = await store.append(
                        session_id,
                        expected_version=await store.version(session_id),
                        header=HEADER,
                        records=await journal_of(turn),
                    )
                    await store.commit(
                        session_id,
                        expected_version=version,
                        header=HEADER,
                        entries=await turns(turn),
                        event=AuditEvent(kind="turn"),
                    )

        async with anyio.create_task_group() as group:
            for number in range(64):
                group.start_soon(work, number)
        query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{postgres_schema}'"
        assert postgres_server.execute(query) == [(4,)]
        assert [(info.turns, info.entries, info.unfinished) for info in await store.list("tenant/")] == [
            (3, 9, False)
        ] * 64
        records = await store.audit("tenant")
        verify_chain(records, tenant="tenant")
        assert len(records) == 64 * 3


async def test_sessions_that_share_entries_and_go_at_once_leave_nothing_behind(
    postgres_server: PostgresServer, postgres_schema: str
):
    async with opened(postgres_server.url(), postgres_schema, pool_size=8) as store:
        await commit(store, "root", 1)
        for number in range(4):
            await store.fork("root", f"branch/{number}")
            await commit(store, f"branch/{number}", 2)
        postgres_server.execute(
            f"CREATE FUNCTION {postgres_schema}.wait() RETURNS trigger AS "
            "$$ BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END $$ LANGUAGE plpgsql",
            f"CREATE TRIGGER wait AFTER DELETE ON {postgres_schema}.entries "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {postgres_schema}.wait()",
        )
        async with anyio.create_task_group() as group:
            for info in await store.list():
                group.start_soon(store.delete, info.id)
    assert row_counts(postgres_server, postgres_schema) == dict.fromkeys(TABLES, 0)


async def test_many_tasks_share_change_and_drop_one_tree(
    postgres_server: PostgresServer, postgres_schema: str
):
    async with opened(postgres_server.url(), postgres_schema) as store:
        await store.commit("root", expected_version=0, header=HEADER, entries=await turns(1, 2, 3))

        async def work(number: int) -> None:
            session_id = f"branch/{number}"
            await store.fork("root", session_id, num_entries=number % 10)
            for kept in (number % 10, 0, number % 3):
                await store.commit(
                    session_id,
                    expected_version=await store.version(session_id),
                    header=HEADER,
                    entries=await turns(4),
                    replace_from=kept,
                    archive=number % 2 == 0,
                )
            await store.delete(session_id)

        async with anyio.create_task_group() as group:
            for number in range(32):
                group.start_soon(work, number)
        assert (await loaded(store, "root")).entries == as_stored(await turns(1, 2, 3))
        left = {"sessions": 1, "entries": 9, "archives": 0, "journal": 0}
        assert row_counts(postgres_server, postgres_schema) == left


async def test_a_task_that_is_cancelled_from_outside_anyio_leaves_all_or_nothing(
    postgres_server: PostgresServer, postgres_schema: str
):
    """Unlike a cancellation by anyio, which waits for the end of a write, this one interrupts it."""
    async with opened(postgres_server.url(), postgres_schema, pool_size=1) as store:
        await store.commit("s", expected_version=0, header=HEADER, entries=[])
        for step in range(24):
            stored = await loaded(store, "s")
            entries = await turns(step)
            writing = store.commit("s", expected_version=stored.version, header=HEADER, entries=entries)
            task = asyncio.ensure_future(writing)
            await asyncio.sleep(step / 5_000)
            task.cancel()
            await asyncio.wait([task])
            found = (await loaded(store, "s")).entries
            assert found in (stored.entries, stored.entries + as_stored(entries))


async def test_waiting_for_a_connection_ends_and_says_so(
    postgres_server: PostgresServer, postgres_schema: str
):
    options = {"pool_size": 1, "pool_timeout": 0.1}
    async with opened(postgres_server.url(), postgres_schema, **options) as store:
        await store.list()
        postgres_server.execute(
            f"CREATE FUNCTION {postgres_schema}.wait() RETURNS trigger AS "
            "$$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$ LANGUAGE plpgsql",
            f"CREATE TRIGGER wait BEFORE INSERT ON {postgres_schema}.sessions "
            f"FOR EACH ROW EXECUTE FUNCTION {postgres_schema}.wait()",
        )
        async with anyio.create_task_group() as group:
            group.start_soon(commit, store, "s", 1)
            await anyio.sleep(0.3)
            with pytest.raises(StoreError, match=r"all 1 connections .* in use for 0.1 s; raise pool_size"):
                await store.load("s")
        assert (await loaded(store, "s")).entries == as_stored(await turns(1))


async def test_ids_are_sorted_by_code_point_whatever_the_database_prefers(postgres_server: PostgresServer):
    postgres_server.execute(
        "CREATE DATABASE english TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C'"
    )
    async with opened(postgres_server.url(database="english"), "agentkit") as store:
        for session_id in ("b", "a", "B", "a-c", "ab", "a/b", "A"):
            await store.commit(session_id, expected_version=0, header=HEADER, entries=[])
        assert [info.id for info in await store.list()] == ["A", "B", "a", "a-c", "a/b", "ab", "b"]
        assert [info.id for info in await store.list("a-")] == ["a-c"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schema": "My Schema"}, "schema must be up to 63 of a-z, 0-9 and _, .* got 'My Schema'"),
        ({"pool_size": 0}, "pool_size must be at least 1, got 0"),
        ({"pool_timeout": 0}, "pool_timeout must be more than 0 seconds, got 0"),
        ({"reconnect_timeout": -1.0}, "reconnect_timeout must be more than 0 seconds, got -1.0"),
        ({"statement_timeout": float("inf")}, "statement_timeout must be more than 0 seconds, got inf"),
    ],
)
def test_an_option_out_of_its_range_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigurationError, match=message):
        PostgresStore("postgresql://localhost/agent", **options)

"""The server or the network goes away in the middle: what was acknowledged stays, and nothing happens twice."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import pytest

from agentkit.errors import SessionBusyError, StoreError
from agentkit.memory import AuditEvent, verify_chain
from agentkit.memory.postgres import PostgresStore
from agentkit.testing.store_samples import HEADER, as_stored, as_stored_records, journal_of, turns
from tests.memory.postgres_stores import commit, loaded, opened
from tests.postgres_proxy import Direction, proxied
from tests.postgres_server import PostgresServer

OUTAGES = 8
TASKS = 4


async def append(store: PostgresStore, version: int) -> None:
    records = await journal_of(2)
    written = await store.append("s", expected_version=version, header=HEADER, records=records)
    assert written == await store.version("s")


async def make(store: PostgresStore, version: int) -> None:
    written = await store.commit("new", expected_version=0, header=HEADER, entries=await turns(5))
    assert written == await store.version("new")


async def replace_tail(store: PostgresStore, version: int) -> None:
    written = await store.commit(
        "s",
        expected_version=version,
        header=HEADER,
        entries=await turns(2),
        replace_from=1,
        archive=True,
        event=AuditEvent(kind="turn"),
    )
    assert written == await store.version("s")


async def fork(store: PostgresStore, version: int) -> None:
    assert await store.fork("s", "new", num_entries=2) == await store.version("new")


async def delete(store: PostgresStore, version: int) -> None:
    assert await store.delete("s", expected_version=version) is True


async def delete_any(store: PostgresStore, version: int) -> None:
    assert await store.delete("s") is True


async def note(store: PostgresStore, version: int) -> None:
    await store.note("s", AuditEvent(kind="noted"))


Write = Callable[[PostgresStore, int], Awaitable[None]]
WRITES: list[Write] = [append, make, replace_tail, fork, delete, delete_any, note]


async def everything(store: PostgresStore) -> list[object]:
    """All that a store holds, without versions, times and what follows from them."""
    found: list[object] = [(r.kind, r.session_id) for r in await store.audit("")]
    for info in await store.list():
        stored = await loaded(store, info.id)
        found.append((info.id, stored.header, stored.entries, stored.journal, await store.archived(info.id)))
    return found


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("direction", "text"), [("to server", b"COMMIT"), ("to client", b"COMMIT\0")])
async def test_a_write_whose_outcome_was_lost_happens_once(
    postgres_server: PostgresServer, postgres_schema: str, write: Write, direction: Direction, text: bytes
):
    async with proxied(postgres_server) as proxy, opened(proxy.url, postgres_schema) as store:
        version = await commit(store, "s", 1)
        async with store.hold("s"):
            proxy.break_at(direction, text)
            await write(store, version)
        assert proxy.broken == 1
        found = await everything(store)
        verify_chain(await store.audit(""), tenant="")
    undisturbed_schema = f"{postgres_schema}_undisturbed"
    async with opened(postgres_server.url(), undisturbed_schema) as store:
        await write(store, await commit(store, "s", 1))
        assert found == await everything(store)
    postgres_server.execute(f"DROP SCHEMA {undisturbed_schema} CASCADE")


async def test_a_write_that_went_through_is_not_repeated_over_one_of_another_worker(
    postgres_server: PostgresServer, postgres_schema: str
):
    """Between the loss and the next attempt somebody else deletes the session and makes another of its name."""
    async with (
        proxied(postgres_server) as proxy,
        opened(proxy.url, postgres_schema) as store,
        opened(postgres_server.url(), postgres_schema) as other,
    ):
        version = await commit(store, "s", 1)
        proxy.break_at("to client", b"COMMIT\0")
        proxy.hold_back()
        async with anyio.create_task_group() as group:
            group.start_soon(delete_any, store, version)
            with anyio.fail_after(10):
                while await other.version("s"):  # noqa: ASYNC110  # only the database knows when
                    await anyio.sleep(0.01)
            await commit(other, "s", 7)
            proxy.let_through()
        assert (await loaded(other, "s")).entries == as_stored(await turns(7))


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
async def test_a_turn_goes_on_when_the_server_comes_back(
    postgres_server: PostgresServer, end: Callable[[PostgresServer], None]
):
    schema = f"outage_{end.__name__}"
    async with opened(postgres_server.url(), schema, reconnect_timeout=60) as store:
        version = await commit(store, "s", 1)
        async with store.hold("s"):
            end(postgres_server)
            async with anyio.create_task_group() as group:
                group.start_soon(append, store, version)
                await anyio.sleep(0.2)
                await anyio.to_thread.run_sync(postgres_server.start)
            async with opened(postgres_server.url(), schema) as other:
                with pytest.raises(SessionBusyError):
                    async with other.hold("s"):
                        pytest.fail("it was held twice")
        stored = await loaded(store, "s")
        assert stored.entries == as_stored(await turns(1))
        assert stored.journal == as_stored_records(await journal_of(2))


async def test_a_server_that_stays_away_is_named_without_its_password(postgres_server: PostgresServer):
    async with opened(postgres_server.url(), "outage", reconnect_timeout=0.5) as store:
        version = await commit(store, "s", 1)
        postgres_server.stop()
        try:
            for operation in (store.load("s"), store.list(), append(store, version)):
                with pytest.raises(StoreError) as caught:
                    await operation
                said = str(caught.value)
                name = f"database 'postgres' at 127.0.0.1:{postgres_server.port} cannot be reached: "
                assert said.startswith(name)
                assert "Connection refused" in said or "server closed the connection" in said
                assert "\n" not in said
            with pytest.raises(StoreError, match="cannot be reached"):
                async with store.hold("s"):
                    pytest.fail("it was held")
        finally:
            postgres_server.start()
        await append(store, version)
        async with store.hold("s"):
            pass


async def test_waiting_for_a_server_can_be_cancelled(postgres_server: PostgresServer):
    async with opened(postgres_server.url(), "outage", reconnect_timeout=60) as store:
        await store.list()
        postgres_server.stop()
        try:
            with anyio.fail_after(10), anyio.move_on_after(0.2) as scope:
                await store.list()
            assert scope.cancelled_caught
        finally:
            postgres_server.start()
        await store.list()


async def test_a_server_that_hangs_is_not_waited_for_forever(postgres_server: PostgresServer):
    options = {"statement_timeout": 0.3, "reconnect_timeout": 0.3}
    async with opened(postgres_server.url(), "outage", **options) as store:
        version = await commit(store, "hung", 1)
        with postgres_server.frozen(), pytest.raises(StoreError, match=r"at 127.0.0.1:\d+ does not answer;"):
            await store.append("hung", expected_version=version, header=HEADER, records=[])
        await store.append("hung", expected_version=await store.version("hung"), header=HEADER, records=[])


async def test_over_random_outages_nothing_acknowledged_is_lost_and_nothing_is_doubled(
    postgres_server: PostgresServer,
):
    chance = random.Random(7)
    acknowledged = dict.fromkeys(range(TASKS), 0)
    outages = 0
    async with opened(postgres_server.url(), "outages", reconnect_timeout=60) as store:

        async def work(task: int) -> None:
            session_id, version = f"tenant/{task}", 0
            async with store.hold(session_id):
                while outages < OUTAGES or acknowledged[task] < 3:
                    number = acknowledged[task] + 1
                    version = await store.append(
                        session_id,
                        expected_version=version,
                        header=HEADER,
                        records=(await journal_of(number))[:1],
                    )
                    version = await store.commit(
                        session_id,
                        expected_version=version,
                        header=HEADER,
                        entries=await turns(number),
                        event=AuditEvent(kind="turn", details={"task": task, "turn": number}),
                    )
                    acknowledged[task] = number

        async with anyio.create_task_group() as group:
            for task in range(TASKS):
                group.start_soon(work, task)
            while outages < OUTAGES:
                enough = sum(acknowledged.values()) + chance.randint(1, 6)
                while sum(acknowledged.values()) < enough:  # noqa: ASYNC110  # then at any moment of a write
                    await anyio.sleep(chance.uniform(0.0, 0.005))
                end = chance.choice([postgres_server.stop, postgres_server.kill])
                await anyio.to_thread.run_sync(end)
                await anyio.to_thread.run_sync(postgres_server.start)
                outages += 1
        records = await store.audit("tenant")
        verify_chain(records, tenant="tenant")
        for task, last in acknowledged.items():
            stored = await loaded(store, f"tenant/{task}")
            assert stored.entries == as_stored(await turns(*range(1, last + 1)))
            noted = [record.details["turn"] for record in records if record.details["task"] == task]
            assert noted == list(range(1, last + 1))

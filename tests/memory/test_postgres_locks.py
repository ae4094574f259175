"""One worker at a time for each session, whatever happens to processes and connections."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from agentkit.errors import SessionBusyError, StoreError
from agentkit.memory.postgres import PostgresStore
from agentkit.testing.store_samples import HEADER, as_stored, turns
from tests.memory.postgres_stores import commit, loaded, opened
from tests.postgres_proxy import proxied
from tests.postgres_server import PostgresServer

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def worker(server: PostgresServer, schema: str, session_id: str) -> Iterator[subprocess.Popen[str]]:
    """A process that works on a session, or says that it is busy; it is killed after the block."""
    command = [sys.executable, "-m", "tests.memory.postgres_worker", server.url(), schema, session_id]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end_lock_backends(server: PostgresServer) -> None:
    """Let the server end every connection that holds a session."""
    server.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM "
        "(SELECT DISTINCT pid FROM pg_locks WHERE locktype = 'advisory') AS holders"
    )


async def hold_when_free(store: PostgresStore, session_id: str) -> None:
    """Hold a session for a moment as soon as it is free."""
    with anyio.fail_after(10):
        while True:
            try:
                async with store.hold(session_id):
                    return
            except SessionBusyError:
                await anyio.sleep(0.01)


async def test_of_two_processes_one_works_and_the_other_is_told(
    postgres_server: PostgresServer, postgres_schema: str
):
    with worker(postgres_server, postgres_schema, "s") as first:
        assert next_line(first) == "held"
        with worker(postgres_server, postgres_schema, "s") as second:
            assert next_line(second) == "busy"
        with worker(postgres_server, postgres_schema, "t") as third:
            assert next_line(third) == "held"
        async with opened(postgres_server.url(), postgres_schema) as store:
            with pytest.raises(SessionBusyError, match="session 's' is in use by another run"):
                async with store.hold("s"):
                    pytest.fail("it was held twice")


async def test_a_worker_that_is_killed_lets_go_and_leaves_whole_turns(
    postgres_server: PostgresServer, postgres_schema: str
):
    async with opened(postgres_server.url(), postgres_schema) as store:
        for _ in range(3):
            with worker(postgres_server, postgres_schema, "s") as process:
                assert next_line(process) == "held"
                acknowledged = int(next_line(process))
                process.kill()
                acknowledged = max([acknowledged, *map(int, process.communicate()[0].split())])
            await hold_when_free(store, "s")
            stored = await loaded(store, "s")
            last = stored.entries[-1].turn
            assert stored.entries == as_stored(await turns(*range(1, last + 1)))
            assert acknowledged <= last <= acknowledged + 1


async def test_a_lost_lock_is_taken_again_before_the_next_write(
    postgres_server: PostgresServer, postgres_schema: str
):
    url = postgres_server.url()
    async with opened(url, postgres_schema) as store, opened(url, postgres_schema) as other:
        async with store.hold("s"), store.hold("t"):
            end_lock_backends(postgres_server)
            await commit(store, "s", 1)
            for session_id in ("s", "t"):
                with pytest.raises(SessionBusyError):
                    async with other.hold(session_id):
                        pytest.fail("it was held twice")
        async with other.hold("s"), other.hold("t"):
            pass


async def test_whoever_lost_a_session_to_another_worker_writes_nothing_more(
    postgres_server: PostgresServer, postgres_schema: str
):
    url = postgres_server.url()
    async with opened(url, postgres_schema) as store, opened(url, postgres_schema) as other:
        version = await commit(store, "s", 1)
        async with store.hold("s"), store.hold("t"):
            end_lock_backends(postgres_server)
            async with other.hold("s"):
                with pytest.raises(SessionBusyError):
                    await store.append("s", expected_version=version, header=HEADER, records=[])
                with pytest.raises(SessionBusyError):
                    await store.delete("s")
                await commit(store, "t", 1)
                assert await other.version("s") == version
            with pytest.raises(SessionBusyError):
                await store.append("s", expected_version=version, header=HEADER, records=[])
        async with store.hold("s"):
            await commit(store, "s", 2)


async def test_a_server_that_does_not_know_of_a_broken_connection_keeps_no_lock_from_its_owner(
    postgres_server: PostgresServer, postgres_schema: str
):
    async with (
        proxied(postgres_server) as proxy,
        opened(proxy.url, postgres_schema) as store,
        opened(postgres_server.url(), postgres_schema) as other,
    ):
        async with store.hold("s"):
            await proxy.lose_clients()
            with pytest.raises(SessionBusyError):
                async with other.hold("s"):
                    pytest.fail("the server still had the lock")
            await commit(store, "s", 1)
            with pytest.raises(SessionBusyError):
                async with other.hold("s"):
                    pytest.fail("it was held twice")
        async with other.hold("s"):
            pass


@pytest.mark.parametrize("text", [b"pg_try_advisory_lock", b"pg_terminate_backend", b"set_config"])
async def test_a_connection_that_breaks_while_a_session_is_taken_is_opened_again(
    postgres_server: PostgresServer, postgres_schema: str, text: bytes
):
    async with (
        proxied(postgres_server) as proxy,
        opened(proxy.url, postgres_schema) as store,
        opened(postgres_server.url(), postgres_schema) as other,
    ):
        async with store.hold("t"):
            await proxy.lose_clients()
            proxy.break_at("to server", text)
            async with store.hold("s"):
                assert proxy.broken == 1
                for session_id in ("s", "t"):
                    with pytest.raises(SessionBusyError):
                        async with other.hold(session_id):
                            pytest.fail("it was held twice")
        async with other.hold("s"), other.hold("t"):
            pass


async def test_a_connection_that_breaks_while_a_session_is_let_go_keeps_the_others(
    postgres_server: PostgresServer, postgres_schema: str
):
    async with (
        proxied(postgres_server) as proxy,
        opened(proxy.url, postgres_schema) as store,
        opened(postgres_server.url(), postgres_schema) as other,
        store.hold("t"),
    ):
        async with store.hold("s"):
            proxy.break_at("to server", b"pg_advisory_unlock")
        assert proxy.broken == 1
        await commit(store, "t", 1)
        async with other.hold("s"):
            pass
        with pytest.raises(SessionBusyError):
            async with other.hold("t"):
                pytest.fail("it was held twice")


async def test_a_task_that_is_cancelled_from_outside_anyio_keeps_no_lock(
    postgres_server: PostgresServer, postgres_schema: str
):
    url = postgres_server.url()
    async with opened(url, postgres_schema) as store, opened(url, postgres_schema) as other:

        async def hold() -> None:
            async with store.hold("s"):
                await asyncio.sleep(60)

        async with store.hold("t"), other.hold("u"):
            for step in range(20):
                task = asyncio.create_task(hold())
                await asyncio.sleep(step / 10_000)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                await hold_when_free(other, "s")


async def test_a_closed_store_holds_nothing(postgres_server: PostgresServer, postgres_schema: str):
    url = postgres_server.url()
    async with opened(url, postgres_schema) as store, opened(url, postgres_schema) as other:
        async with store.hold("s"):
            await store.close()
            async with other.hold("s"):
                pass
        with pytest.raises(StoreError, match="is closed"):
            async with store.hold("s"):
                pytest.fail("it was held")

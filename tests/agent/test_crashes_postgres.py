"""Workers killed in a turn on PostgreSQL, and a server that goes away in the middle of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from agentkit import Agent, StoreError, tool
from agentkit.memory import verify_chain
from agentkit.memory.postgres import PostgresStore
from tests.agent.crash_turn import Life
from tests.agent.placed_script import PlacedScript
from tests.agent.proving import Forges, Proving, at_point, two_forges
from tests.agent.support import call, policy
from tests.postgres_server import PostgresServer

MAYBE = "It may have taken effect; its result is not known."


@pytest.fixture(scope="module")
def forges(postgres_server: PostgresServer) -> Iterator[Forges]:
    postgres_server.execute("CREATE DATABASE crashes")
    with two_forges() as forges:
        yield forges


def test_a_worker_killed_at_any_point_is_survived(
    tmp_path: Path, postgres_server: PostgresServer, forges: Forges
):
    life = Life(folder="", store=postgres_server.url(database="crashes"), script=0)
    proving = Proving(forges, tmp_path, life)
    unknown = proving.unknown_after([at_point(number) for number in range(1, proving.num_points + 1, 2)])
    assert len(unknown) > 30
    assert any(unknown)


class Outage:
    """An agent whose tool stops the server, and a store that waits a while for it to come back."""

    def __init__(self, server: PostgresServer, schema: str, *, reconnect_timeout: float) -> None:
        self.made: list[str] = []
        self.begun = anyio.Event()
        self.store = PostgresStore(server.url(), schema=schema, reconnect_timeout=reconnect_timeout)

        @tool(effect="write", timeout=60)
        async def send(text: str) -> str:
            """Send a text."""
            self.made.append(text)
            if text == "b" and self.made.count("b") == 1:
                await anyio.to_thread.run_sync(server.stop)
                self.begun.set()
            return f"done with {text}"

        script = [call("send", text="a"), f"{call('send', text='b')}; {call('send', text='c')}", "Done."]
        self.agent = Agent(PlacedScript({"Go": script}), tools=[send], policy=policy(), store=self.store)


async def test_a_turn_goes_on_when_the_server_comes_back_in_time(
    postgres_server: PostgresServer, postgres_schema: str
):
    outage = Outage(postgres_server, postgres_schema, reconnect_timeout=30)
    async with outage.agent as agent, anyio.create_task_group() as tasks:

        async def come_back() -> None:
            await outage.begun.wait()
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(postgres_server.start)

        tasks.start_soon(come_back)
        session = agent.session("t/1")
        result = await session.run("Go")
    assert outage.made == ["a", "b", "c"]
    assert result.output == "Done."
    assert not any(MAYBE in message.content for message in result.messages)
    verify_chain(await outage.store.audit("t"), tenant="t")
    await outage.store.close()


async def test_a_turn_that_the_server_left_can_be_resumed_when_it_is_back(
    postgres_server: PostgresServer, postgres_schema: str
):
    outage = Outage(postgres_server, postgres_schema, reconnect_timeout=0.5)
    async with outage.agent as agent:
        session = agent.session("t/1")
        with pytest.raises(StoreError, match=r"cannot be reached: .*; check that it runs"):
            await session.run("Go")
        await anyio.to_thread.run_sync(postgres_server.start)
        result = await session.resume()
    assert outage.made == ["a", "b", "c"]
    assert result.output == "Done."
    answers = [message.content for message in result.messages if message.call_id]
    assert [MAYBE in answer for answer in answers] == [False, True, False]
    stored = await outage.store.load("t/1")
    assert stored is not None
    assert stored.journal == ()
    await outage.store.close()

"""Errors, cancellation and tools that misbehave: what the caller sees, and what the session keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from agentkit import (
    Agent,
    ContextLengthError,
    StoreError,
    tool,
)
from agentkit.memory import MemoryStore
from agentkit.testing import ScriptedEngine
from tests.agent.support import call, policy, scripted

CANARY = "xyzzy"


class FailingStore:
    """A store whose next commits fail as they are told to."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, *args: Any, **options: Any) -> int:
        if self.error is not None:
            raise self.error
        return await self._store.commit(*args, **options)


async def read_to_its_end(agent: Agent, text: str) -> Any:
    async with agent.session().stream(text) as run:
        async for _event in run:
            pass
        return run.result.output


async def test_an_error_of_the_caller_leaves_a_stream_as_it_is():
    agent, _ = scripted("Hello.")
    async with agent:
        with pytest.raises(ValueError, match="mine"):
            async with agent.session().stream("Hi"):
                raise ValueError("mine")


async def test_a_group_of_errors_of_the_caller_stays_whole():
    mine = ExceptionGroup("mine", [ValueError("one"), KeyError("two")])
    agent, _ = scripted("Hello.")
    async with agent:
        with pytest.raises(ExceptionGroup) as caught:
            async with agent.session().stream("Hi"):
                raise mine
    assert caught.value is mine


async def test_an_unexpected_error_of_an_engine_leaves_a_stream_as_it_leaves_a_run():
    class Broken(ScriptedEngine):
        async def generate(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
            async for _token in super().generate(*args, **options):
                raise RuntimeError("broken")
            yield

    async with Agent(Broken(["Hello."]), policy=policy()) as agent:
        with pytest.raises(RuntimeError, match="broken"):
            await read_to_its_end(agent, "Hi")


async def test_the_error_of_a_run_is_not_hidden_by_asking_for_its_result():
    agent = Agent(ScriptedEngine(["Hello."], context_length=20), policy=policy())
    async with agent:
        with pytest.raises(ContextLengthError):
            await read_to_its_end(agent, "x" * 50)


async def test_a_cancelled_step_keeps_the_calls_that_ran():
    runs: list[str] = []

    @tool(effect="write", timeout=60)
    async def send(text: str) -> str:
        """Send a text."""
        runs.append(text)
        await anyio.sleep(0 if text == "fast" else 30)
        return "sent"

    both = f"{call('send', text='fast')}; {call('send', text='slow')}"
    agent, _ = scripted(both, tools=[send])
    async with agent:
        session = agent.session()
        with anyio.move_on_after(0.3):
            await session.run("Send both")
    assert runs == ["fast", "slow"]
    made = [one.arguments["text"] for message in session.messages for one in message.tool_calls]
    assert made == ["fast", "slow"]


@pytest.mark.parametrize("num_calls", [1, 2])
async def test_a_tool_that_cancels_itself_is_a_failed_call(num_calls: int):
    @tool(effect="read")
    async def quits(number: int) -> str:
        """Do something."""
        raise asyncio.CancelledError

    calls = "; ".join(call("quits", number=number) for number in range(num_calls))
    agent, _ = scripted(calls, "Sorry.", tools=[quits])
    async with agent:
        try:
            result = await agent.run("Go")
        except (asyncio.CancelledError, KeyError) as error:
            pytest.fail(f"the run raised {type(error).__name__}")
    assert result.output == "Sorry."


async def test_a_cancellation_is_not_replaced_by_an_error_of_the_store():
    store = FailingStore(MemoryStore())

    @tool(effect="read")
    async def note(text: str) -> str:
        """Write a note down."""
        return "done"

    engine = ScriptedEngine([call("note", text="x"), "A slow answer, word by word."], seconds_per_token=0.005)
    async with Agent(engine, policy=policy(), tools=[note]) as agent:
        session = agent.session("t/1", store=store)
        store.error = StoreError("locked")
        task = asyncio.create_task(session.run("Go"))
        await anyio.sleep(0.35)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

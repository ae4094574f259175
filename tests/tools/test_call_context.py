"""What a running tool knows of its call: in its tasks and threads, and nowhere else."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from agentkit import Agent, MemoryStore
from agentkit.cleared import Cleared
from agentkit.errors import ToolError
from agentkit.messages import Message, ToolCall
from agentkit.testing import ScriptedEngine
from agentkit.testing.store_samples import cleared
from agentkit.tools import CallContext, Executor, Tool, Toolset, current_call, idempotency_key, tool
from tests.agent.support import policy

seen: list[CallContext] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@tool(effect="read")
async def in_a_task(text: str) -> str:
    """Look in a task."""

    async def look() -> None:
        await checkpoint()
        seen.append(current_call())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
    return current_call().call_id


@tool(effect="read")
async def in_a_thread(text: str) -> str:
    """Look in a thread."""
    seen.append(await anyio.to_thread.run_sync(current_call))
    return current_call().call_id


@tool(effect="read")
def plain(text: str) -> str:
    """Look without waiting."""
    seen.append(current_call())
    return current_call().call_id


async def call(name: str, *, call_id: str = "call_1", text: str = "x") -> Cleared[ToolCall]:
    wanted = ToolCall(id=call_id, name=name, arguments={"text": text})
    return (await cleared(Message.user("go"))).map(lambda _: wanted)


def test_outside_of_a_call_there_is_none():
    with pytest.raises(ToolError, match="works only inside a tool that an agent is calling"):
        current_call()


@pytest.mark.parametrize("looking", [in_a_task, in_a_thread, plain])
async def test_a_tool_knows_its_call_wherever_it_works(looking: Tool):
    wanted = await call(looking.name)
    outcome = await Executor(Toolset([looking])).run(wanted)
    assert outcome.content == "call_1"
    key = idempotency_key(wanted.value)
    assert seen == [CallContext(call_id="call_1", tool_name=looking.name, idempotency_key=key)]
    with pytest.raises(ToolError):
        current_call()


async def test_calls_side_by_side_know_each_its_own():
    calls = [await call("in_a_task", call_id=f"call_{number}") for number in range(8)]
    outcomes = await Executor(Toolset([in_a_task])).run_all(calls)
    assert [outcome.content for outcome in outcomes] == [f"call_{number}" for number in range(8)]
    assert len({context.idempotency_key for context in seen}) == 8


async def test_after_a_tool_that_fails_there_is_no_call():
    @tool(effect="read")
    async def fails(text: str) -> str:
        """Fail."""
        raise RuntimeError

    await Executor(Toolset([fails])).run(await call("fails"))
    with pytest.raises(ToolError):
        current_call()


def test_a_key_names_the_call_and_its_arguments():
    def key(call_id: str, **arguments: object) -> str:
        return idempotency_key(ToolCall(id=call_id, name="send", arguments=arguments))

    assert key("call_1", to="bob", text="x") == key("call_1", text="x", to="bob")
    assert (
        len({key("call_1", to="bob"), key("call_2", to="bob"), key("call_1", to="eve"), key("call_1")}) == 4
    )


async def test_an_agent_inside_a_tool_has_calls_of_its_own():
    inner = Agent(
        ScriptedEngine(['{"name": "plain", "parameters": {"text": "x"}}', "Seen."]),
        tools=[plain],
        policy=policy(),
    )

    @tool(effect="read", timeout=60)
    async def delegate(text: str) -> str:
        """Ask another agent."""
        async with inner:
            await inner.session(store=MemoryStore()).run(text)
        return current_call().call_id

    outcome = await Executor(Toolset([delegate])).run(await call("delegate"))
    assert outcome.content == "call_1"
    assert [context.tool_name for context in seen] == ["plain"]
    assert seen[0].call_id != "call_1"

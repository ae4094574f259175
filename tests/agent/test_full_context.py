"""A session whose context fills: the run says so, the turn goes on, and what left stays in the store."""

from __future__ import annotations

from agentkit import Agent, ContextTrimmed, Limits, Run, SamplingParams, Window
from agentkit.memory import MemoryStore, verify_chain
from agentkit.messages import Role
from agentkit.testing import ScriptedEngine
from tests.agent.support import policy

TURNS = 12
CONTEXT = 1_500


def agent_in(store: MemoryStore, *, replies: int = TURNS, window: Window | None = None) -> Agent:
    engine = ScriptedEngine(
        [f"Answer {number}. " + "x" * 80 for number in range(replies)], context_length=CONTEXT
    )
    return Agent(
        engine,
        instructions="You are a test.",
        policy=policy(),
        store=store,
        window=window,
        sampling=SamplingParams(max_tokens=200),
    )


async def trims(run: Run) -> list[ContextTrimmed]:
    return [event async for event in run if isinstance(event, ContextTrimmed)]


async def test_the_turn_goes_on_and_every_trim_is_told_audited_and_archived():
    store = MemoryStore()
    told: list[ContextTrimmed] = []
    async with agent_in(store) as agent:
        session = agent.session("t/1")
        for number in range(TURNS):
            async with session.stream(f"Question {number}", limits=Limits(tokens=None)) as run:
                told += await trims(run)
            assert run.result.output.startswith(f"Answer {number}")
        roles = [message.role for message in session.messages]
    assert 1 <= len(told) < TURNS / 2
    assert all(event.tokens_after < event.tokens_before <= CONTEXT for event in told)
    assert roles[0] is Role.SYSTEM
    assert len(roles) < 1 + 2 * TURNS
    archived = await store.archived("t/1")
    assert len(archived) == len(told)
    records = await store.audit("t")
    verify_chain(records, tenant="t")
    assert [record.kind for record in records].count("context_trimmed") == len(told)
    asked = {entry.message.content for kept in archived for entry in kept if entry.message.role is Role.USER}
    assert {f"Question {number}" for number in range(3)} <= asked


async def test_what_was_said_pinned_stays():
    store = MemoryStore()
    async with agent_in(store) as agent:
        session = agent.session("t/1")
        await session.run("Remember: the code word is heron.", pinned=True, limits=Limits(tokens=None))
        for number in range(1, TURNS):
            await session.run(f"Question {number}", limits=Limits(tokens=None))
        said = [message.content for message in session.messages if message.role is Role.USER]
    assert said[0] == "Remember: the code word is heron."
    assert "Question 1" not in said


async def test_a_trimmed_session_goes_on_in_another_process_with_the_same_ids():
    store = MemoryStore()
    async with agent_in(store) as first:
        session = first.session("t/1")
        for number in range(TURNS - 1):
            await session.run(f"Question {number}", limits=Limits(tokens=None))
        before = session.messages
    async with agent_in(store, replies=1) as second:
        again = await second.session("t/1").load()
        assert again.messages == before
        await again.run("And now?", limits=Limits(tokens=None))
    assert len(await store.archived("t/1")) >= 1

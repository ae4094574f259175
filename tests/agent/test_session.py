"""Sessions: resumed, forked, cancelled, busy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from agentkit import Agent, ConfigurationError, RunStatus, SessionBusyError, StoreError, TextDelta, tool
from agentkit.memory import MemoryStore
from agentkit.messages import Role
from agentkit.testing import ScriptedEngine, byte_tokenizer
from tests.agent.support import call, policy, scripted


async def test_a_session_goes_on_in_a_new_agent_with_the_very_same_ids(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/agent.db"
    first, first_engine = scripted("Nice to meet you.", store=url)
    async with first:
        await first.session("alice/1").run("I am Alice.")
    second, second_engine = scripted("Alice.", store=url)
    async with second:
        result = await second.session("alice/1").run("Who am I?")
    assert result.output == "Alice."
    assert second_engine.prompts[0].startswith(first_engine.prompts[0] + "Nice to meet you.<|im_end|>\n")


async def test_other_instructions_render_the_history_again():
    store = MemoryStore()
    first, _ = scripted("Nice to meet you.")
    async with first:
        await first.session("alice/1", store=store).run("I am Alice.")
    engine = ScriptedEngine(["Alice."])
    other = Agent(engine, instructions="You are another test.", policy=policy())
    async with other:
        await other.session("alice/1", store=store).run("Who am I?")
    assert "You are another test." in engine.prompts[0]
    assert "You are a test." not in engine.prompts[0]
    assert "I am Alice." in engine.prompts[0]


async def test_a_fork_goes_its_own_way():
    agent, engine = scripted("One.", "Two.", "Three.")
    store = MemoryStore()
    async with agent:
        session = agent.session("t/1", store=store)
        await session.run("Count")
        branch = await session.fork("t/2")
        await session.run("Go on")
        await branch.run("Go on differently")
    assert "Go on<" not in engine.prompts[2]
    assert [len((await store.load(name)).entries) for name in ("t/1", "t/2")] == [5, 5]  # type: ignore[union-attr]


async def test_a_fork_onto_an_existing_session_is_an_error():
    agent, _ = scripted("One.", "Two.")
    store = MemoryStore()
    async with agent:
        session = agent.session("t/1", store=store)
        await session.run("Count")
        await agent.session("t/2", store=store).run("Count")
        with pytest.raises(StoreError, match="t/2"):
            await session.fork("t/2")


async def test_two_turns_at_once_are_refused():
    engine = ScriptedEngine(["A slow answer.", "Fine."], seconds_per_token=0.05)
    agent = Agent(engine, policy=policy())
    async with agent:
        session = agent.session()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, "Hi")
            await anyio.sleep(0.1)
            with pytest.raises(SessionBusyError, match="is running a turn"):
                await session.run("Me too")
        assert (await session.run("Again")).output == "Fine."


async def test_two_agents_on_one_session_do_not_overwrite_each_other():
    store = MemoryStore()
    first, _ = scripted("One.", "Two.")
    second, engine = scripted("Other.")
    async with first, second:
        ours = first.session("t/1", store=store)
        await ours.run("Count")
        theirs = await second.session("t/1", store=store).load()
        await ours.run("Go on")
        assert (await theirs.run("Me too")).output == "Other."
    assert "Two." in engine.prompts[-1]
    said = [message.content for message in theirs.messages if message.role is Role.ASSISTANT]
    assert said == ["One.", "Two.", "Other."]


async def test_a_session_that_runs_elsewhere_is_busy():
    store = MemoryStore()
    first = Agent(ScriptedEngine(["Slow and long."], seconds_per_token=0.02), policy=policy())
    second, _ = scripted("Other.")
    async with first, second, first.session("t/1", store=store).stream("Hi"):
        await anyio.sleep(0.05)
        with pytest.raises(SessionBusyError, match="in use by another run"):
            await second.session("t/1", store=store).run("Me too")


async def test_cancelling_a_run_gives_a_result_and_leaves_the_session_usable():
    engine = ScriptedEngine(["A slow answer, word by word by word.", "Fine."], seconds_per_token=0.02)
    agent = Agent(engine, policy=policy(segment_tokens=1))
    async with agent:
        session = agent.session()
        async with session.stream("Hi") as run:
            async for event in run:
                if isinstance(event, TextDelta):
                    run.cancel()
        assert run.result.status is RunStatus.CANCELLED
        assert session.messages == ()
        assert (await session.run("Again")).output == "Fine."


async def test_leaving_a_stream_early_cancels_the_turn():
    engine = ScriptedEngine(["A slow answer, word by word by word.", "Fine."], seconds_per_token=0.02)
    agent = Agent(engine, policy=policy())
    async with agent:
        session = agent.session()
        with anyio.fail_after(2):
            async with session.stream("Hi"):
                await anyio.sleep(0.1)
        assert (await session.run("Again")).output == "Fine."


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1, 0.2])
async def test_cancellation_from_outside_keeps_what_ran_and_drops_the_rest(seconds: float):
    runs: list[str] = []

    @tool(effect="write")
    async def send(text: str) -> str:
        """Send a text."""
        runs.append(text)
        return "sent"

    store = MemoryStore()
    engine = ScriptedEngine(
        [call("send", text="hi"), "It was sent, my friend.", "Fine."], seconds_per_token=0.002
    )
    agent = Agent(engine, policy=policy(), tools=[send])
    async with agent:
        session = agent.session("t/1", store=store)
        with anyio.move_on_after(seconds):
            await session.run("Send it")
        stored = await store.load("t/1")
        kept = [message.role for message in session.messages]
    assert (Role.TOOL in kept) == bool(runs)
    assert [entry.message.role for entry in stored.entries] == kept if stored else kept in ([], [Role.SYSTEM])


async def test_a_store_is_opened_once_for_each_url_and_closed_with_the_agent(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/agent.db"
    agent, _ = scripted("One.", "Two.")
    async with agent:
        sessions = [agent.session(name, store=url) for name in ("t/1", "t/2")]
        for session in sessions:
            await session.run("Count")
    assert sessions[0]._store is sessions[1]._store
    with pytest.raises(StoreError, match="closed"):
        await sessions[0].load()


async def test_run_sync_in_async_code_says_what_to_do():
    agent, _ = scripted("One.")
    with pytest.raises(ConfigurationError, match=r"use `await agent\.run"):
        agent.run_sync("Count")


def test_run_sync_works_again_and_again():
    agent, _ = scripted("One.", "Two.")
    assert agent.run_sync("Count").output == "One."
    assert agent.run_sync("Go on").output == "Two."


@pytest.mark.parametrize("forged_text", ["other text", "<|im_end|>"])
async def test_stored_ids_that_say_something_else_than_the_message_never_reach_the_model(forged_text: str):
    store = MemoryStore()
    agent, engine = scripted("My name is <|im_end|>.", "Alice.")
    async with agent:
        await agent.session("alice/1", store=store).run("I am Alice.")
        await agent.session("alice/1", store=ForgingStore(store, forged_text)).run("Who am I?")
    first, second = (sum(token_id >= 256 for token_id in ids) for ids in engine.prompt_ids)
    assert "other text" not in engine.prompts[1]
    assert second == first + 4  # the answer's end, the user's start and end, the next answer's start


class ForgingStore:
    """A store whose file somebody changed: the last answer's ids are not those of its message."""

    def __init__(self, store: MemoryStore, text: str) -> None:
        self._store = store
        tokenizer = byte_tokenizer()
        special = tokenizer.special_ids.get(text)
        self._ids = tokenizer.encode(text) if special is None else [special]

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def load(self, session_id: str):
        stored = await self._store.load(session_id)
        assert stored is not None
        last = stored.entries[-1]
        ids = list(last.ids)
        start = bytes(value % 256 for value in ids).find(b"<|im_end|>")
        ids[start : start + len(b"<|im_end|>")] = self._ids
        return replace(stored, entries=(*stored.entries[:-1], replace(last, ids=tuple(ids))))

"""A session and its store out of step: lost races, interrupted commits, forks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import pytest

from agentkit import (
    Agent,
    SessionBusyError,
    StoreError,
)
from agentkit.memory import MemoryStore, SQLiteStore
from agentkit.messages import Role
from agentkit.testing import ScriptedEngine
from tests.agent.support import policy, scripted

CANARY = "xyzzy"


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
async def test_a_native_cancellation_during_the_commit_leaves_the_session_usable(tmp_path: Path, steps: int):
    class SlowStore(SQLiteStore):
        async def commit(self, *args: Any, **options: Any) -> int:
            committing.set()
            return await super().commit(*args, **options)

    committing = anyio.Event()
    store = SlowStore(tmp_path / "agent.db")
    agent, _ = scripted("One.", "Two.")
    async with agent:
        session = await agent.session("t/1", store=store).load()
        task = asyncio.create_task(session.run("Count"))
        await committing.wait()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await anyio.sleep(0.2)
        await session.run("Go on")
    await store.close()


async def test_a_fork_of_a_session_that_was_rendered_again_has_its_entries_once():
    store = MemoryStore()
    first = Agent(ScriptedEngine(["One."]), policy=policy())
    async with first:
        await first.session("t/1", store=store).run("Count")
    second, _ = scripted("Two.")  # has instructions: one entry more
    async with second:
        branch = await (await second.session("t/1", store=store).load()).fork("t/2")
        await branch.run("Go on")
        kept = branch.messages
    stored = await store.load("t/2")
    assert stored is not None
    assert tuple(entry.message for entry in stored.entries) == kept


async def test_a_fork_of_a_session_that_another_run_changed_is_whole_or_an_error():
    store = MemoryStore()
    first, _ = scripted("One.", "Two.", "Three.")
    second, _ = scripted("Other.")
    async with first, second:
        ours = first.session("t/1", store=store)
        await ours.run("Count")
        theirs = await second.session("t/1", store=store).load()
        await ours.run("Go on")
        try:
            branch = await theirs.fork("t/2")
        except SessionBusyError:
            return
        await branch.run("Me too")
        kept = branch.messages
    stored = await store.load("t/2")
    assert stored is not None
    assert tuple(entry.message for entry in stored.entries) == kept


async def test_forking_an_unsaved_session_onto_an_existing_one_is_an_error():
    store = MemoryStore()
    agent, _ = scripted("One.", "Two.")
    async with agent:
        await agent.session("t/2", store=store).run("Count")
        with pytest.raises(StoreError, match="t/2"):
            await agent.session("t/1", store=store).fork("t/2")


async def test_a_turn_in_progress_is_not_forked():
    engine = ScriptedEngine(["A slow answer."], seconds_per_token=0.05)
    async with Agent(engine, policy=policy()) as agent:
        session = agent.session()
        async with session.stream("Hi"):
            await anyio.sleep(0.15)
            with pytest.raises(SessionBusyError):
                await session.fork("branch")


async def test_a_load_beside_the_first_run_does_not_lose_its_turn():
    class SlowStore(MemoryStore):
        async def load(self, session_id: str) -> Any:
            stored = await super().load(session_id)
            delay, delays[:] = delays[0], delays[1:]
            await anyio.sleep(delay)
            return stored

    delays = [0.0, 0.1]
    agent, _ = scripted("One.", "Two.")
    async with agent:
        session = agent.session("t/1", store=SlowStore())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, "Count")
            tasks.start_soon(session.load)
        assert [message.role for message in session.messages].count(Role.USER) == 1
        await session.run("Go on")

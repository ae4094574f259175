"""A store that cannot be written for a while: no call is made whose intent is not on the disk, nothing told is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentkit import Agent, Session, SQLiteStore, StoreError, ToolCallFinished, current_call, tool
from agentkit.agent.approvals import MAYBE_MADE
from agentkit.memory import verify_chain
from agentkit.memory.journal import CallIntended, JournalRecord
from tests.agent.placed_script import WELCOME, PlacedScript
from tests.agent.support import call, policy

SCRIPT = [
    f"{call('send', text='a')}; {call('look', text='x')}",
    f"{call('pay', text='b')}; {call('send', text='c')}",
    call("lok", text="x"),
    "Done.",
]


class LockableStore(SQLiteStore):
    """A store in a file that another process locks for one write, or from one write on until `release`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, busy_timeout=0)
        self._other = sqlite3.connect(path, isolation_level=None)
        self._left = 0
        self._lasting = False
        self.num_writes = 0
        self.not_intended: set[str] = set()

    def lock(self, *, write: int, lasting: bool) -> None:
        """Lock the file before the next write but `write - 1`."""
        self._left, self._lasting = write, lasting
        self.not_intended.clear()

    def release(self) -> None:
        """Let the file be written again."""
        if self._other.in_transaction:
            self._other.rollback()

    async def append(self, *args: Any, records: Sequence[JournalRecord], **options: Any) -> int:
        self._begin()
        try:
            version = await super().append(*args, records=records, **options)
        except StoreError:
            self.not_intended |= {record.call_id for record in records if isinstance(record, CallIntended)}
            raise
        finally:
            self._end()
        return version

    async def commit(self, *args: Any, **options: Any) -> int:
        self._begin()
        try:
            return await super().commit(*args, **options)
        finally:
            self._end()

    async def close(self) -> None:
        self._other.close()
        await super().close()

    def _begin(self) -> None:
        self.num_writes += 1
        self._left -= 1
        if self._left == 0:
            self._other.execute("BEGIN IMMEDIATE")

    def _end(self) -> None:
        if not self._lasting:
            self.release()


class Effects:
    """Tools that write down what they did, and in which call."""

    def __init__(self) -> None:
        self.made: list[str] = []

        @tool(effect="write")
        async def send(text: str) -> str:
            """Send a text."""
            return self._have(text)

        @tool(effect="external", approval="always")
        async def pay(text: str) -> str:
            """Pay for a thing."""
            return self._have(text)

        @tool(effect="read")
        async def look(text: str) -> str:
            """Look at a thing."""
            return f"seen {text}"

        self.tools = [send, pay, look]

    def _have(self, text: str) -> str:
        self.made.append(current_call().call_id)
        return f"done with {text}"


async def run_and_watch(session: Session) -> list[ToolCallFinished]:
    """Run a turn until the store fails; return the results that somebody saw."""
    seen: list[ToolCallFinished] = []

    async def watch() -> None:
        async with session.stream("Go") as run:
            async for event in run:
                seen.extend([event] if isinstance(event, ToolCallFinished) else ())

    with pytest.raises(StoreError, match="is locked by another process"):
        await watch()
    return seen


@pytest.mark.parametrize("lasting", [False, True])
async def test_a_store_that_fails_at_any_write_of_a_turn_is_survived(tmp_path: Path, lasting: bool):
    store, effects = LockableStore(tmp_path / "agent.db"), Effects()
    agent = Agent(
        PlacedScript({"Go": SCRIPT}),
        tools=effects.tools,
        policy=policy(),
        approver=lambda request: request.reason != MAYBE_MADE,
        store=store,
    )
    async with agent:
        await agent.session("t/whole").run("Go")
        num_writes = store.num_writes
        for number in range(1, num_writes + 1):
            effects.made.clear()
            session = agent.session(f"t/{number}")
            store.lock(write=number, lasting=lasting)
            seen = await run_and_watch(session)
            store.release()
            assert not store.not_intended & set(effects.made)
            if (await session.load()).unfinished:
                await session.resume()
            assert (await session.run("Thank you.")).output == WELCOME
            check_told(session, effects, seen)
        verify_chain(await store.audit("t"), tenant="t")
    await store.close()
    assert num_writes > 10


@pytest.mark.parametrize("lasting", [False, True])
async def test_a_session_that_is_not_loaded_again_sees_its_unfinished_turn(tmp_path: Path, lasting: bool):
    """Every write but the last is done: a lasting failure keeps the turn open, which only the store knows."""
    store, effects = LockableStore(tmp_path / "agent.db"), Effects()
    agent = Agent(
        PlacedScript({"Go": [call("send", text="a"), "Done."]}), tools=effects.tools, policy=policy()
    )
    async with agent:
        session = agent.session("t/1", store=store)
        store.lock(write=4, lasting=lasting)
        seen = await run_and_watch(session)
        store.release()
        result = await session.resume() if lasting else await session.run("Go")
        assert result.output == "Done."
        check_told(session, effects, seen)
    await store.close()
    assert len(effects.made) == (1 if lasting else 2)


def check_told(session: Session, effects: Effects, seen: Sequence[ToolCallFinished]) -> None:
    calls = {call.id: call for message in session.messages for call in message.tool_calls}
    answers = {message.call_id: message.content for message in session.messages if message.call_id}
    assert list(answers) == list(calls)
    assert all(answers[event.call_id] == event.content for event in seen)
    assert len(set(effects.made)) == len(effects.made)
    assert set(effects.made) <= set(calls)

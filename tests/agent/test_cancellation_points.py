"""A turn cancelled wherever it waits: the session stays usable, and what was done is told."""

from __future__ import annotations

import asyncio
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentkit import (
    Agent,
    ApprovalDecision,
    ApprovalRequest,
    MemoryStore,
    RunStatus,
    Session,
    SQLiteStore,
    Store,
    UnfinishedTurnError,
    tool,
)
from agentkit.memory import verify_chain
from agentkit.tools import Approver
from tests.agent.placed_script import WELCOME, PlacedScript
from tests.agent.support import call, policy

SCRIPT = [
    f"{call('send', text='a')}; {call('look', text='x')}; {call('look', text='y')}",
    f"{call('pay', text='b')}; {call('pay', text='c')}",
    call("lok", text="x"),
    "Done.",
]


class Waits:
    """Counts how often a coroutine waits, and calls `then` when it waits for the `number`th time."""

    def __init__(self, number: int | None = None, then: Callable[[], object] = lambda: None) -> None:
        self.count = 0
        self._number = number
        self._then = then

    @types.coroutine
    def of(self, work: Coroutine[Any, Any, object]) -> Generator[Any, Any, None]:
        """Run the coroutine to its end, in its own task."""
        resume = partial(work.send, None)
        while True:
            try:
                waits_for = resume()
            except StopIteration:
                return
            self.count += 1
            if self.count == self._number:
                self._then()
            try:
                resume = partial(work.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001  # what the loop throws is for the work
                resume = partial(work.throw, error)


async def by_a_scope(session: Session, number: int) -> None:
    with anyio.CancelScope() as scope:
        await Waits(number, scope.cancel).of(session.run("Go"))


async def natively(session: Session, number: int) -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task
        await Waits(number, task.cancel).of(session.run("Go"))

    with suppress(asyncio.CancelledError):
        await asyncio.create_task(work())


class Watched:
    """An agent on the script, and what its tools did, by session."""

    def __init__(self, store: Store, *, approver: Approver | None = None) -> None:
        self.done: list[str] = []

        async def have_effect(text: str) -> str:
            await checkpoint()
            self.done.append(text)
            await checkpoint()
            return f"done with {text}"

        @tool(effect="write")
        async def send(text: str) -> str:
            """Send a text."""
            return await have_effect(text)

        @tool(effect="external", approval="always")
        async def pay(text: str) -> str:
            """Pay for a thing."""
            return await have_effect(text)

        @tool(effect="read")
        async def look(text: str) -> str:
            """Look at a thing."""
            await checkpoint()
            return f"seen {text}"

        async def approve(request: ApprovalRequest) -> bool:
            await checkpoint()
            return request.tool_name == "pay" and "interrupted" not in request.reason

        self.agent = Agent(
            PlacedScript({"Go": SCRIPT}),
            tools=[send, pay, look],
            policy=policy(),
            approver=approver or approve,
            store=store,
        )


@pytest.mark.parametrize("cancelled", [by_a_scope, natively])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_turn_cancelled_at_any_wait_is_told_and_can_be_gone_on_with(
    tmp_path: Path, kind: str, cancelled: Callable[[Session, int], Awaitable[None]]
):
    store: Store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "agent.db")
    watched = Watched(store)
    counter = Waits()
    async with watched.agent as agent:
        await counter.of(agent.session("t/whole").run("Go"))
        assert watched.done == ["a", "b", "c"]
        for number in range(1, counter.count + 1):
            watched.done.clear()
            session = agent.session(f"t/{number}")
            await cancelled(session, number)
            await check_agreement(session, store, may_be_open=cancelled is natively)
            await check_going_on(session, watched.done)
        verify_chain(await store.audit("t"), tenant="t")
    await store.close()
    assert counter.count > 40


async def later_and_yes(request: ApprovalRequest) -> ApprovalDecision:
    """The yes is written when the turn is left to wait, which can be cancelled too."""
    return ApprovalDecision.LATER if request.arguments["text"] == "b" else ApprovalDecision.APPROVE


@pytest.mark.parametrize("cancelled", [by_a_scope, natively])
async def test_a_turn_cancelled_on_its_way_to_a_person_waits_or_has_ended(
    tmp_path: Path, cancelled: Callable[[Session, int], Awaitable[None]]
):
    store = SQLiteStore(tmp_path / "agent.db")
    watched = Watched(store, approver=later_and_yes)
    counter = Waits()
    waited = 0
    async with watched.agent as agent:
        await counter.of(agent.session("t/whole").run("Go"))
        assert watched.done == ["a"]
        for number in range(1, counter.count + 1):
            watched.done.clear()
            session = agent.session(f"t/{number}")
            await cancelled(session, number)
            try:
                await session.run("Hello.")
            except UnfinishedTurnError:
                waited += 1
                for request in await session.approvals():
                    await session.approve(request.call_id)
                await session.resume()
            await check_going_on(session, watched.done)
    await store.close()
    assert 0 < waited < counter.count


async def by_its_run(session: Session, number: int) -> int:
    """Cancel a turn at an event; return how many there were."""
    count = 0
    async with session.stream("Go") as run:
        async for _event in run:
            count += 1
            if count == number:
                run.cancel()
    assert run.result.status in (RunStatus.CANCELLED, RunStatus.COMPLETED)
    return count


async def after_its_step(session: Session, number: int) -> int:
    """Stop a turn after the step of an event; return how many there were."""
    count = 0
    async with session.stream("Go") as run:
        async for _event in run:
            count += 1
            if count == number:
                run.cancel(after_step=True)
    notes = [message.content for message in session.messages if "turn ended" in message.content]
    assert notes == []  # the step had its results
    return count


async def by_leaving(session: Session, number: int) -> int:
    """Leave the stream of a turn at an event; return how many there were until then."""
    count = 0
    async with session.stream("Go") as run:
        async for _event in run:
            count += 1
            if count == number:
                break
    return count


@pytest.mark.parametrize("stopped", [by_its_run, after_its_step, by_leaving])
async def test_a_turn_stopped_at_any_event_is_told_and_can_be_gone_on_with(
    stopped: Callable[[Session, int], Awaitable[int]],
):
    store = MemoryStore()
    watched = Watched(store)
    async with watched.agent as agent:
        num_events = await stopped(agent.session("t/whole"), 0)
        for number in range(1, num_events + 1):
            watched.done.clear()
            session = agent.session(f"t/{number}")
            await stopped(session, number)
            await check_agreement(session, store, may_be_open=False)
            await check_going_on(session, watched.done)
        verify_chain(await store.audit("t"), tenant="t")
    assert num_events > 20


async def check_agreement(session: Session, store: Store, *, may_be_open: bool) -> None:
    stored = await store.load(session.id)
    if stored is None:
        assert len(session.messages) <= 1
    elif stored.journal:
        assert may_be_open  # a write that nobody waited for has happened all the same
    else:
        assert session.messages == tuple(entry.message for entry in stored.entries)


async def check_going_on(session: Session, done: list[str]) -> None:
    if (await session.load()).unfinished:
        await session.resume()
    assert (await session.run("Thank you.")).output == WELCOME
    calls = {call.id: call for message in session.messages for call in message.tool_calls}
    answered = [message.call_id for message in session.messages if message.call_id]
    assert answered == list(calls)
    assert max(Counter(done).values(), default=0) <= 1
    assert set(done) <= {call.arguments["text"] for call in calls.values()}

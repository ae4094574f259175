"""A turn to be killed in: its script, its tools, and the points where its process dies. Checks nothing.

What the turn does to the world goes into files of a folder, one line of JSON a time, so that it outlives a kill.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from agentkit import (
    Agent,
    ApprovalDecision,
    ApprovalRequest,
    Run,
    RunStatus,
    SamplingParams,
    Session,
    StoreError,
    Tool,
    ToolCallFinished,
    current_call,
    tool,
)
from agentkit.agent.approvals import MAYBE_MADE
from agentkit.memory import Store, open_store
from tests.agent.placed_script import PlacedScript
from tests.agent.support import call, policy

ERRANDS = "Go on with the errands."

Mode = Literal["never again", "again", "later"]
"""Whether the person lets a call be repeated that may have been made; `later` decides between two runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process on the turn: it begins it, or goes on with it, and dies at a point or at a time, or ends it.

    With `max_file_bytes` the disk is full once a file is as large. After the first error there is room again, and
    the process ends the turn that it finds unfinished.
    """

    folder: str
    store: str
    script: int
    mode: Mode = "never again"
    session: str = "t/1"
    kill_at: int | None = None
    kill_after: float | None = None
    max_file_bytes: int | None = None


def texts_of(number: int) -> list[str]:
    """Return what the user says: the errands alone, or between two turns without tools."""
    return ["Hello.", ERRANDS, "Thank you."] if number % 2 else [ERRANDS]


def script_of(number: int) -> list[str]:
    """Return what the model does about the errands: five steps with calls in an order of their own, an answer."""
    draw = random.Random(number)
    steps = [
        [call("send", text="a"), call("send", text="b")],
        draw.sample([call("send", text="c"), call("look", text="x"), call("look", text="y")], 3),
        [call("book", text="d")],
        [call("look", text="z"), call("lok", text="z"), '{"name": "send"}'][draw.randrange(2) :],
        [call("pay", text="e"), call("send", text="f")],
    ]
    draw.shuffle(steps)
    return [*map("; ".join, steps), "The errands are done."]


class Points:
    """The points that a process passes. It kills itself at one of them, as the system would."""

    def __init__(self, kill_at: int | None) -> None:
        self._kill_at = kill_at
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class World:
    """What happened outside of the process, in files that only grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, name: str, **facts: Any) -> None:
        """Add a line to a file, in one write."""
        descriptor = os.open(self._folder / name, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, (json.dumps(facts) + "\n").encode())
        finally:
            os.close(descriptor)

    def read(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of a file, oldest first."""
        path = self._folder / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tools_of(world: World, point: Points) -> list[Tool]:
    """Return the tools: `send` and `pay` have an effect each time, `book` once a key, `look` has none."""

    def have_effect(text: str) -> str:
        point()
        world.note("effects", text=text)
        point()
        return f"done with {text}"

    @tool(effect="write")
    async def send(text: str) -> str:
        """Send a text."""
        return have_effect(text)

    @tool(effect="external", approval="always")
    async def pay(text: str) -> str:
        """Pay for a thing."""
        return have_effect(text)

    @tool(effect="write", idempotent=True)
    def book(text: str) -> str:
        """Book a thing, once for each key."""
        key = current_call().idempotency_key
        world.note("attempts", text=text, key=key)
        booked = any(effect.get("key") == key for effect in world.read("effects"))
        point()
        if not booked:
            world.note("effects", text=text, key=key)
        point()
        return f"done with {text}"

    @tool(effect="read")
    async def look(text: str) -> str:
        """Look at a thing."""
        point()
        return f"done with {text}"

    return [send, pay, book, look]


class Person:
    """Who is asked: lets calls be made, and be made again only in mode `again`."""

    def __init__(self, mode: Mode, world: World, point: Points) -> None:
        self._mode = mode
        self.world = world
        self._point = point

    def __call__(self, request: ApprovalRequest) -> ApprovalDecision:
        if self._mode == "later":
            return ApprovalDecision.LATER
        return ApprovalDecision.APPROVE if self.approves(request) else ApprovalDecision.DENY

    def approves(self, request: ApprovalRequest) -> bool:
        self._point()
        approved = self._mode == "again" or request.reason != MAYBE_MADE
        self.world.note("asked", call_id=request.call_id, reason=request.reason, approved=approved)
        self._point()
        return approved


class DyingStore:
    """A store whose process may die before and after each write."""

    def __init__(self, store: Store, point: Points) -> None:
        self._store = store
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, *args: Any, **options: Any) -> int:
        self._point()
        version = await self._store.append(*args, **options)
        self._point()
        return version

    async def commit(self, *args: Any, **options: Any) -> int:
        self._point()
        version = await self._store.commit(*args, **options)
        self._point()
        return version


async def live(life: Life) -> None:
    """Bring the conversation to its end, unless the process dies before; note what a caller has seen."""
    world, point = World(Path(life.folder)), Points(life.kill_at)
    person = Person(life.mode, world, point)
    store = open_store(life.store)
    agent = Agent(
        PlacedScript({ERRANDS: script_of(life.script)}, note=partial(_note_draw, world)),
        instructions="You run errands.",
        tools=tools_of(world, point),
        policy=policy(),
        approver=person,
        store=DyingStore(store, point),
    )
    async with agent:
        session = agent.session(life.session)
        with _disk_of(life.max_file_bytes) as errors:
            await _converse(session, texts_of(life.script), person, point)
        for error in errors:
            world.note("errors", message=error)
            await _converse(session, [], person, point)
    await store.close()
    world.note("lives", points=point.count)


@contextmanager
def _disk_of(max_file_bytes: int | None) -> Iterator[list[str]]:
    """Let no file grow beyond a size in the block; an error of the store then ends the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    errors: list[str] = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft if max_file_bytes is None else max_file_bytes, hard))
    try:
        yield errors
    except StoreError as error:
        if max_file_bytes is None:
            raise
        errors.append(str(error))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def _converse(session: Session, texts: Sequence[str], person: Person, point: Points) -> None:
    await session.load()
    while (work := await _next(session, texts, person)) is not None:
        await _watch(work, person.world, point)
        await session.load()


def _note_draw(world: World, text: str, step: int, params: SamplingParams) -> None:
    world.note("draws", text=text, step=step, seed=params.seed)


async def _next(
    session: Session, texts: Sequence[str], person: Person
) -> AbstractAsyncContextManager[Run] | None:
    """Return what is to be run next; calls that wait for the person are decided before."""
    if session.unfinished:
        for request in await session.approvals():
            approved = person.approves(request)
            await (session.approve if approved else session.deny)(request.call_id)
        return session.stream_resume()
    said = {message.content for message in session.messages}
    return next((session.stream(text) for text in texts if text not in said), None)


async def _watch(work: AbstractAsyncContextManager[Run], world: World, point: Points) -> None:
    async with work as run:
        async for event in run:
            if isinstance(event, ToolCallFinished):
                world.note("finished", call_id=event.call_id, status=event.status, content=event.content)
                point()
    if run.result.status is not RunStatus.AWAITING_APPROVAL:
        world.note("results", status=run.result.status, output=run.result.output)
    point()

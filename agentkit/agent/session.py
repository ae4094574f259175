"""A conversation that goes on: one turn at a time, kept in a store. Knows neither shields nor model files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, Unpack

import anyio
from pydantic import BaseModel

from agentkit import telemetry
from agentkit.agent.answers import answer_schema, read_answer
from agentkit.agent.calls import CallDesk
from agentkit.agent.doors import GuardedEngine
from agentkit.agent.events import Event, EventSink, RunFinished
from agentkit.agent.history import SessionHistory
from agentkit.agent.judge import Judge
from agentkit.agent.limits import Budget, Limits
from agentkit.agent.loop import Ending, Turn
from agentkit.agent.result import RunResult, RunStatus, UsageMeter
from agentkit.errors import AgentKitError, SessionBusyError
from agentkit.inference.formats.base import ToolChoice
from agentkit.messages import Message

if TYPE_CHECKING:
    from agentkit.agent.agent import Agent
    from agentkit.agent.runtime import Runtime
    from agentkit.memory.store import Store

Send = Callable[[Event], Awaitable[None]]


class RunOptions(TypedDict, total=False):
    """What one run may set for itself.

    `limits` replace the agent's. With `output_type` the answer is held to its schema while it is sampled, and
    `result.output` is an instance of it. `tool_choice` lets the model decide (`auto`), makes its first step a
    call (`required`) or allows none (`none`).
    """

    limits: Limits | None
    output_type: type[BaseModel] | None
    tool_choice: Literal["auto", "required", "none"]


class Run:
    """A turn in progress: iterate over its events; `result` is there once the last one came."""

    def __init__(self, events: AsyncIterator[Event], cancel: Callable[[], None]) -> None:
        self._events = events
        self._cancel = cancel
        self._result: RunResult | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._events.__anext__()
        if isinstance(event, RunFinished):
            self._result = event.result
        return event

    @property
    def result(self) -> RunResult:
        """The outcome.

        Raises:
            AgentKitError: while the run goes on.
        """
        if self._result is None:
            raise AgentKitError("the run has not finished; iterate over its events to the end first")
        return self._result

    def cancel(self) -> None:
        """Stop the run at its next step; it then finishes with status `cancelled`."""
        self._cancel()


class Session:
    """A conversation with one agent, made by `Agent.session`. Runs one turn at a time."""

    def __init__(self, agent: Agent, session_id: str, store: Store) -> None:
        self._agent = agent
        self._store = store
        self._history: SessionHistory | None = None
        self._running = False
        self.id = session_id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, as the model knows it; empty until the first run or `load`."""
        return self._history.transcript.messages if self._history is not None else ()

    async def load(self) -> Self:
        """Read what the store holds of this session now, rather than at the first run.

        Raises:
            StoreError: if the store cannot be read.
            BlockedError: if stored content does not pass stage `memory`.
        """
        await self._open(await self._agent.start())
        return self

    async def run(self, text: str, **options: Unpack[RunOptions]) -> RunResult:
        """Run one turn and return its result; see `RunOptions`."""
        return await self._run(text, options, send=_ignore)

    @asynccontextmanager
    async def stream(self, text: str, **options: Unpack[RunOptions]) -> AsyncIterator[Run]:
        """Run one turn and give its events as they happen. Leaving the block early cancels the turn."""
        send, receive = anyio.create_memory_object_stream[Event](64)
        turn_scope = anyio.CancelScope()

        async def produce() -> None:
            async with send:
                await self._run(text, options, send=send.send, turn_scope=turn_scope)

        async with receive:
            group_error: AgentKitError | None = None
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(produce)
                    yield Run(receive, turn_scope.cancel)
                    tasks.cancel_scope.cancel()
            except* AgentKitError as group:
                group_error = _first(group)
            if group_error is not None:
                raise group_error

    async def fork(self, session_id: str) -> Session:
        """Return a new session that begins with this one's conversation.

        Raises:
            StoreError: if the store holds a session of that id.
        """
        history = await self._open(await self._agent.start())
        if history.version:
            await self._store.fork(self.id, session_id)
        stored = await self._store.load(session_id) if history.version else None
        branch = Session(self._agent, session_id, self._store)
        branch._history = history.fork(session_id, version=stored.version if stored else 0)
        return branch

    async def _open(self, runtime: Runtime) -> SessionHistory:
        if self._history is None:
            self._history = await SessionHistory.open(runtime, self._store, self.id)
        return self._history

    async def _run(
        self, text: str, options: RunOptions, *, send: Send, turn_scope: anyio.CancelScope | None = None
    ) -> RunResult:
        if self._running:
            raise SessionBusyError(f"session {self.id} is running a turn; wait for it or use a fork")
        self._running = True
        try:
            runtime = await self._agent.start()
            history = await self._open(runtime)
            with telemetry.span(telemetry.SPAN_RUN, **{telemetry.ATTR_SESSION: self.id}) as span:
                result = await _run_turn(runtime, history, text, options, EventSink(send), turn_scope)
                span.set_attribute(telemetry.ATTR_STATUS, result.status.value)
            return result
        finally:
            self._running = False


async def _run_turn(
    runtime: Runtime,
    history: SessionHistory,
    text: str,
    options: RunOptions,
    sink: EventSink,
    turn_scope: anyio.CancelScope | None,
) -> RunResult:
    started = perf_counter()
    limits = options.get("limits") or runtime.limits
    output_type = options.get("output_type")
    meter = UsageMeter()
    transcript = history.transcript
    before = len(transcript.messages)
    judge = Judge(runtime.pipeline, transcript, sink, meter)
    turn = Turn(
        engine=GuardedEngine(runtime.engine, scope=history.scope),
        format=history.format,
        transcript=transcript,
        tools=runtime.tools,
        desk=CallDesk(
            toolset=runtime.toolset,
            executor=runtime.executor,
            policy=runtime.policy,
            approver=runtime.approver,
            judge=judge,
            sink=sink,
            meter=meter,
        ),
        judge=judge,
        sink=sink,
        budget=Budget(limits),
        meter=meter,
        sampling=runtime.sampling,
        segment_tokens=runtime.policy.streaming.segment_tokens,
        answer_schema=answer_schema(output_type),
        tool_choice=ToolChoice(options.get("tool_choice", "auto")),
    )
    try:
        ending = await _within(limits.seconds, turn, text, turn_scope)
        output = read_answer(ending.answer, output_type)
    except BaseException:
        # An error or a cancellation in the middle: what was settled is kept, the rest never was.
        with anyio.CancelScope(shield=True):
            transcript.rewind(turn.settled)
            await history.commit()
        raise
    if ending.status is not RunStatus.COMPLETED:
        transcript.rewind(turn.settled)
    await history.commit()
    result = RunResult(
        status=ending.status,
        output=output,
        messages=transcript.messages[before:],
        decisions=tuple(judge.decisions),
        usage=meter.total(seconds=perf_counter() - started),
        limit=ending.limit,
        truncated=ending.truncated,
    )
    await sink.finish(result)
    return result


async def _within(
    seconds: float | None, turn: Turn, text: str, turn_scope: anyio.CancelScope | None
) -> Ending:
    """Run the turn to its end, the limit of seconds, or its own cancellation."""
    with turn_scope or anyio.CancelScope():
        with anyio.move_on_after(seconds):
            return await turn.run(text)
        return Ending(status=RunStatus.LIMIT_REACHED, limit="seconds")
    return Ending(status=RunStatus.CANCELLED)


async def _ignore(event: Event) -> None:
    """Take an event that nobody listens to."""


def _first(group: BaseExceptionGroup[Any]) -> AgentKitError:
    error = group.exceptions[0]
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, AgentKitError)  # noqa: S101  # except* let nothing else in
    return error

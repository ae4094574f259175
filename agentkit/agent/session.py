"""A conversation that goes on: one turn at a time, kept in a store. Knows neither shields nor model files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Final, Self, Unpack

import anyio

from agentkit import telemetry
from agentkit.agent.answers import answer_schema, read_answer
from agentkit.agent.calls import CallDesk
from agentkit.agent.doors import GuardedEngine
from agentkit.agent.events import Event, EventSink, RunFinished
from agentkit.agent.history import SessionHistory
from agentkit.agent.judge import Judge
from agentkit.agent.limits import Budget
from agentkit.agent.loop import Ending, Turn
from agentkit.agent.options import RunOptions, check_options
from agentkit.agent.result import RunResult, RunStatus, UsageMeter
from agentkit.errors import AgentKitError, SessionBusyError, StoreError
from agentkit.inference.formats.base import ToolChoice
from agentkit.messages import Message

if TYPE_CHECKING:
    from agentkit.agent.agent import Agent
    from agentkit.agent.runtime import Runtime
    from agentkit.memory.store import Store

Send = Callable[[Event], Awaitable[None]]

_COMMIT_SECONDS: Final = 30.0
"""How long a turn that broke or was cancelled may take to keep what it settled."""


class Run:
    """A turn in progress: iterate over its events; `result` is there once the last one came."""

    def __init__(self, events: AsyncIterator[Event], cancel: Callable[[], None]) -> None:
        self._events = events
        self._cancel = cancel
        self._result: RunResult | None = None
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await self._events.__anext__()
        except StopAsyncIteration:
            self._raise_failure()
            raise
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

    def _fail(self, error: Exception) -> None:
        """Say that the run broke: whoever iterates gets the error at the end of the events."""
        self._error = error

    def _raise_failure(self) -> None:
        """Raise what the run broke with, unless it was raised already."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

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
        self._opening = anyio.Lock()
        self.id = session_id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, as the model knows it; empty until the first run or `load`."""
        return self._history.transcript.messages if self._history is not None else ()

    async def load(self) -> Self:
        """Read what the store holds of this session now: before the first run, or again after another's.

        Raises:
            StoreError: if the store cannot be read.
            BlockedError: if stored content does not pass stage `memory`.
        """
        if not self._running:
            self._history = None
        await self._open()
        return self

    async def run(self, text: str, **options: Unpack[RunOptions]) -> RunResult:
        """Run one turn and return its result; see `RunOptions`."""
        return await self._run(text, options, send=_ignore)

    @asynccontextmanager
    async def stream(self, text: str, **options: Unpack[RunOptions]) -> AsyncIterator[Run]:
        """Run one turn and give its events as they happen. Leaving the block early cancels the turn."""
        send, receive = anyio.create_memory_object_stream[Event](64)
        turn_scope = anyio.CancelScope()
        run = Run(receive, turn_scope.cancel)

        async def produce() -> None:
            async with send:
                try:
                    await self._run(text, options, send=send.send, turn_scope=turn_scope)
                except Exception as error:  # noqa: BLE001  # raised again where the events are read
                    run._fail(error)

        failure: BaseException | None = None
        async with receive:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(produce)
                    yield run
                    tasks.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                failure = _sole(group)
        if failure is not None:
            raise failure
        run._raise_failure()

    async def fork(self, session_id: str) -> Session:
        """Return a new session that begins with this one's conversation.

        Raises:
            SessionBusyError: while a turn is running.
            StoreError: if the store holds a session of that id.
        """
        if self._running:
            raise SessionBusyError(f"session {self.id} is running a turn; wait for it, then fork")
        history = await self._open()
        await history.commit()
        if history.stored:
            await self._store.fork(self.id, session_id)
        elif await self._store.load(session_id) is not None:
            raise StoreError(f"session {session_id!r} exists already; fork to another id, or delete it first")
        return await Session(self._agent, session_id, self._store).load()

    async def _open(self) -> SessionHistory:
        runtime = await self._agent.start()
        async with self._opening:
            if self._history is None or self._history.in_doubt:
                self._history = await SessionHistory.open(runtime, self._store, self.id)
            return self._history

    async def _run(
        self, text: str, options: RunOptions, *, send: Send, turn_scope: anyio.CancelScope | None = None
    ) -> RunResult:
        if self._running:
            raise SessionBusyError(f"session {self.id} is running a turn; wait for it or use a fork")
        self._running = True
        try:
            check_options(options)
            history = await self._open()
            runtime = await self._agent.start()
            attributes = {telemetry.ATTR_SESSION: self.id, telemetry.ATTR_MODEL: runtime.setup.model_name}
            with telemetry.span(telemetry.SPAN_RUN, **attributes) as span:
                result = await _run_turn(runtime, history, text, options, EventSink(send), turn_scope)
                span.set_attributes(
                    {
                        telemetry.ATTR_STATUS: result.status.value,
                        telemetry.ATTR_INPUT_TOKENS: result.usage.input_tokens,
                        telemetry.ATTR_CACHED_TOKENS: result.usage.cached_tokens,
                        telemetry.ATTR_OUTPUT_TOKENS: result.usage.output_tokens,
                    }
                )
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
    limits = options.get("limits") or runtime.setup.limits
    output_type = options.get("output_type")
    meter = UsageMeter()
    transcript = history.transcript
    before = len(transcript.messages)
    judge = Judge(runtime.pipeline, transcript, sink, meter)
    for decision in history.take_decisions():
        await judge.record(decision)
    turn = Turn(
        engine=GuardedEngine(runtime.engine, scope=history.scope),
        format=history.format,
        transcript=transcript,
        tools=runtime.tools,
        desk=CallDesk(
            toolset=runtime.setup.toolset,
            executor=runtime.executor,
            policy=runtime.setup.policy,
            approver=runtime.setup.approver,
            judge=judge,
            sink=sink,
            meter=meter,
        ),
        judge=judge,
        sink=sink,
        budget=Budget(limits),
        meter=meter,
        sampling=runtime.setup.sampling,
        segment_tokens=runtime.setup.policy.streaming.segment_tokens,
        answer_schema=answer_schema(output_type),
        tool_choice=ToolChoice(options.get("tool_choice", "auto")),
    )
    try:
        ending = await _within(limits.seconds, turn, text, turn_scope)
        output = read_answer(ending.answer, output_type)
    except BaseException:
        # An error or a cancellation in the middle: what was settled is kept, the rest never was.
        transcript.rewind(turn.settled)
        with anyio.move_on_after(_COMMIT_SECONDS, shield=True), suppress(StoreError):
            await history.commit()  # if it fails, the next turn's commit writes it
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


def _sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of the caller's block, which the task group around it wrapped."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group

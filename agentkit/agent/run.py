"""A turn in progress as its caller sees it: events as they happen, and a way to stop it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

import anyio

from agentkit.agent.events import Event, RunFinished
from agentkit.agent.result import RunResult
from agentkit.errors import AgentKitError

Send = Callable[[Event], Awaitable[None]]

_BUFFERED_EVENTS = 64


class TurnControl:
    """What a caller may ask of a turn while it runs."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.stop_after_step = False

    def cancel(self, *, after_step: bool = False) -> None:
        """Stop the turn now, or once the step in progress has its results."""
        if after_step:
            self.stop_after_step = True
        else:
            self.scope.cancel()


class Run:
    """A turn in progress: iterate over its events; `result` is there once the last one came."""

    def __init__(self, events: AsyncIterator[Event], control: TurnControl) -> None:
        self._events = events
        self._control = control
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

    def cancel(self, *, after_step: bool = False) -> None:
        """Stop the run; it then finishes with status `cancelled`.

        It stops at once, in the middle of a token or a tool; with `after_step` it first ends the step in
        progress with the results of its calls.
        """
        self._control.cancel(after_step=after_step)

    def _fail(self, error: Exception) -> None:
        """Say that the run broke: whoever iterates gets the error at the end of the events."""
        self._error = error

    def _raise_failure(self) -> None:
        """Raise what the run broke with, unless it was raised already."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error


@asynccontextmanager
async def streaming(work: Callable[[Send, TurnControl], Awaitable[RunResult]]) -> AsyncIterator[Run]:
    """Run a turn beside the block and give its events there. Leaving the block early cancels the turn."""
    send, receive = anyio.create_memory_object_stream[Event](_BUFFERED_EVENTS)
    control = TurnControl()
    run = Run(receive, control)

    async def produce() -> None:
        async with send:
            try:
                await work(send.send, control)
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


def _sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of the caller's block, which the task group around it wrapped."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group

"""Runs cleared calls within their limits; whatever goes wrong becomes text for the model.

Knows no shield and no policy: it takes only what they let through.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import Any

import anyio
import anyio.to_thread
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from agentkit.cleared import Cleared, require_cleared
from agentkit.errors import (
    ConfigurationError,
    InvalidArgumentsError,
    ToolError,
    ToolTimeoutError,
    UnknownToolError,
)
from agentkit.messages import ToolCall
from agentkit.tools.base import Effect, Tool
from agentkit.tools.call_context import serving
from agentkit.tools.results import as_text, cut
from agentkit.tools.state import SessionKey
from agentkit.tools.toolset import Toolset

logger = logging.getLogger(__name__)

MAX_PARALLEL = 8
# Waits are drawn between 0 and 0.2, 0.4, 0.8 ... seconds, at most 5.
_WAIT = wait_random_exponential(multiplier=0.2, max=5.0)


class ToolStatus(StrEnum):
    """How a call ended."""

    OK = "ok"
    UNKNOWN_TOOL = "unknown_tool"
    INVALID_ARGUMENTS = "invalid_arguments"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutcome:
    """What came of one call. `content` is what the model is to read, once shields have judged it.

    `attempts` is 0 if the function was never called; `truncated` says that `content` is not all of it.
    """

    call_id: str
    tool_name: str
    status: ToolStatus
    content: str
    seconds: float
    attempts: int
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """Whether the tool did what it was asked."""
        return self.status is ToolStatus.OK


class Executor:
    """Runs the calls of one toolset for one session. Results beyond `result_chars` characters are cut, with a note."""

    def __init__(
        self, toolset: Toolset, *, result_chars: int = 20_000, session: SessionKey | None = None
    ) -> None:
        if result_chars < 1:
            raise ConfigurationError(f"result_chars must be at least 1, got {result_chars!r}")
        self._toolset = toolset
        self._result_chars = result_chars
        self._session = session

    async def run(self, call: Cleared[ToolCall]) -> ToolOutcome:
        """Run one call. The tool's own failures become an outcome; cancellation passes through.

        The model reads the message of a `ToolError`. Of any other exception it reads only the class name,
        because messages of foreign exceptions may carry secrets.

        Raises:
            TypeError: if the call was not cleared.
        """
        asked = require_cleared(call)
        started = perf_counter()
        attempts = _Attempts()
        with serving(asked, self._session):
            status, text = await self._attempt(asked, attempts)
        logger.debug("tool call %s ended as %s after %d attempts", asked.id, status, attempts.count)
        content, truncated = cut(text, self._result_chars)
        return ToolOutcome(
            call_id=asked.id,
            tool_name=asked.name,
            status=status,
            content=content,
            seconds=perf_counter() - started,
            attempts=attempts.count,
            truncated=truncated,
        )

    async def run_all(self, calls: Sequence[Cleared[ToolCall]]) -> tuple[ToolOutcome, ...]:
        """Run the calls of one step; outcomes come in the order of the calls.

        Neighbouring calls of tools that only read run side by side, at most `MAX_PARALLEL` at once. Every
        other call waits for all before it, and is waited for by all after it.

        Raises:
            TypeError: if a call was not cleared; then none has run.
        """
        for call in calls:
            require_cleared(call)
        outcomes: list[ToolOutcome] = []
        for group in self.groups(calls):
            outcomes += await self.run_group(group)
        return tuple(outcomes)

    def groups(self, calls: Sequence[Cleared[ToolCall]]) -> Iterator[list[Cleared[ToolCall]]]:
        """Part the calls of one step into what may run side by side, in order: neighbouring reads, or one call."""
        reads: list[Cleared[ToolCall]] = []
        for call in calls:
            if self._only_reads(call.value):
                reads.append(call)
                continue
            if reads:
                yield reads
                reads = []
            yield [call]
        if reads:
            yield reads

    def _only_reads(self, call: ToolCall) -> bool:
        return call.name in self._toolset and self._toolset.get(call.name).effect is Effect.READ

    async def run_group(self, group: Sequence[Cleared[ToolCall]]) -> list[ToolOutcome]:
        """Run calls side by side, at most `MAX_PARALLEL` at once; outcomes come in the order of the calls.

        Raises:
            TypeError: if a call was not cleared.
        """
        if len(group) == 1:
            return [await self.run(group[0])]
        outcomes: dict[int, ToolOutcome] = {}
        limiter = anyio.CapacityLimiter(MAX_PARALLEL)

        async def run_at(index: int) -> None:
            async with limiter:
                outcomes[index] = await self.run(group[index])

        async with anyio.create_task_group() as tasks:
            for index in range(len(group)):
                tasks.start_soon(run_at, index)
        return [outcomes[index] for index in range(len(group))]

    async def _attempt(self, call: ToolCall, attempts: _Attempts) -> tuple[ToolStatus, str]:
        """Look the tool up, check the arguments, call, and write the result; or say what went wrong."""
        try:
            tool = self._toolset.get(call.name)
        except UnknownToolError as error:
            return ToolStatus.UNKNOWN_TOOL, f"Error: {error}"
        try:
            arguments = tool.validate(call.arguments)
        except InvalidArgumentsError as error:
            return ToolStatus.INVALID_ARGUMENTS, f"Error: {error}"
        try:
            return ToolStatus.OK, as_text(await _call_retrying(tool, arguments, attempts))
        except ToolTimeoutError as error:
            return ToolStatus.TIMEOUT, f"Error: {error}"
        except ToolError as error:
            return ToolStatus.ERROR, f"Error: {error}"
        except asyncio.CancelledError as error:
            if _is_being_cancelled():
                raise
            # The tool raised it of its own accord: nobody asked this run to stop.
            return ToolStatus.ERROR, f"Error: {tool.name} failed ({type(error).__name__})."
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a tool may raise anything; the run goes on
            return ToolStatus.ERROR, f"Error: {tool.name} failed ({type(error).__name__})."


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Attempts:
    """Counts how often the function was called."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self, state: RetryCallState) -> None:
        self.count = state.attempt_number


async def _call_retrying(tool: Tool, arguments: dict[str, Any], attempts: _Attempts) -> Any:
    retrying = AsyncRetrying(
        stop=stop_after_attempt(tool.retries + 1),
        wait=_WAIT,
        retry=retry_if_exception(_may_pass),
        before=attempts.begin,
        sleep=anyio.sleep,
        reraise=True,
    )
    return await retrying(_call_within_timeout, tool, arguments)


def _may_pass(error: BaseException) -> bool:
    """Tell whether trying again could help: what a tool says on purpose, and a timeout, are final."""
    return isinstance(error, Exception) and not isinstance(error, ToolError)


async def _call_within_timeout(tool: Tool, arguments: dict[str, Any]) -> Any:
    with anyio.move_on_after(tool.timeout):
        return await _call(tool, arguments)
    raise ToolTimeoutError(f"{tool.name} did not finish within {tool.timeout:g} seconds")


async def _call(tool: Tool, arguments: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(tool.function):
        return await tool.function(**arguments)
    in_thread = functools.partial(tool.function, **arguments)
    result = await anyio.to_thread.run_sync(in_thread, abandon_on_cancel=True)
    # A decorator may have hidden that the function is async.
    return await result if inspect.isawaitable(result) else result

"""What a run tells while it goes on. An event that carries content leaves only as `Cleared`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentkit.agent.result import RunResult
from agentkit.cleared import Cleared, require_cleared
from agentkit.shields.decision import Decision
from agentkit.tools.approval import ApprovalRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """More of the answer, cleared by stage `model_output`."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallStarted:
    """A call that was cleared, and approved where the policy asks for it, begins."""

    call_id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallFinished:
    """A call ended; `content` is what the model will read, cleared by stage `tool_result`.

    `status` is `ok`, `error`, `timeout`, `invalid_arguments`, `refused` for a call that was not made, or `unknown`
    for one that an interrupted run may have made.
    """

    call_id: str
    name: str
    status: str
    content: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShieldDecision:
    """The pipeline judged something: stage, action and outcomes, never the content."""

    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested:
    """A call waits for a person."""

    request: ApprovalRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextTrimmed:
    """The context was full, so older parts of the conversation left it: turns whole, tool results in part.

    `summarised` says that a summary stands for the turns. The tokens are those of the conversation.
    """

    dropped_turns: int
    cut_results: int
    summarised: bool
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """The last event of every run."""

    result: RunResult


ContentEvent = TextDelta | ToolCallStarted | ToolCallFinished | ApprovalRequested
Event = ContentEvent | ShieldDecision | ContextTrimmed | RunFinished


class EventSink:
    """The door to the user: content passes only when it is cleared."""

    def __init__(self, send: Callable[[Event], Awaitable[None]]) -> None:
        self._send = send

    async def emit(self, event: Cleared[ContentEvent]) -> None:
        """Tell something that carries content.

        Raises:
            TypeError: if the content was not cleared.
        """
        await self._send(require_cleared(event))

    async def notify(self, decision: Decision) -> None:
        """Tell a decision; it holds no content."""
        await self._send(ShieldDecision(decision=decision))

    async def trimmed(self, event: ContextTrimmed) -> None:
        """Tell that the context was trimmed; the event holds no content."""
        await self._send(event)

    async def finish(self, result: RunResult) -> None:
        """Tell the result, which is built of cleared content alone."""
        await self._send(RunFinished(result=result))

"""Releases the model's text to the user segment by segment, each cleared first. Knows no calls and no engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum

from agentkit.agent.events import EventSink, TextDelta
from agentkit.cleared import Cleared
from agentkit.shields.base import Action
from agentkit.shields.decision import Decision
from agentkit.shields.redaction import end_of_whole_words

Judge = Callable[[str], Awaitable[Decision]]


class GateState(StrEnum):
    """Whether more text may follow."""

    OPEN = "open"
    WITHHELD = "withheld"
    BLOCKED = "blocked"


class OutputGate:
    """Judges the answer so far at every segment, so that a phrase split by a boundary is still seen whole.

    What was emitted is always a prefix of what the latest verdict cleared. Where a later verdict would change
    text that is out already, nothing more leaves.
    """

    def __init__(self, judge: Judge, sink: EventSink, *, segment_tokens: int) -> None:
        self._judge = judge
        self._sink = sink
        self._segment_tokens = segment_tokens
        self._text = ""
        self._unjudged_tokens = 0
        self._emitted = ""
        self._cleared: Cleared[str] | None = None
        self.state = GateState.OPEN
        self.decision_id = ""
        """The decision that let the text through as it is; "" while nothing was judged."""

    @property
    def changed(self) -> bool:
        """Whether what was cleared differs from what the model wrote."""
        return self._cleared is not None and self._cleared.value != self._text

    @property
    def cleared(self) -> Cleared[str] | None:
        """The text as it was cleared; None while nothing was judged, or when it was blocked."""
        return self._cleared

    async def push(self, text: str) -> None:
        """Take the text of one more token; judge and release when a segment is full."""
        if self.state is not GateState.OPEN or not text:
            return
        self._text += text
        self._unjudged_tokens += 1
        if self._unjudged_tokens >= self._segment_tokens:
            await self._release(final=False)

    async def finish(self, rest: str) -> None:
        """Take what the parser held back, judge the whole and release it."""
        if self.state is not GateState.OPEN:
            return
        self._text += rest
        if rest or self._unjudged_tokens:
            await self._release(final=True)
        elif self._cleared is not None:  # the last segment ended where the answer does
            await self._show(self._cleared, final=True)

    async def _release(self, *, final: bool) -> None:
        self._unjudged_tokens = 0
        decision = await self._judge(self._text)
        self._cleared = decision.cleared
        self.decision_id = decision.id
        if decision.cleared is None:
            self.state = GateState.BLOCKED
            return
        if decision.action is Action.WITHHOLD or not decision.cleared.value.startswith(self._emitted):
            await self._withhold(decision.cleared)
            return
        await self._show(decision.cleared, final=final)

    async def _show(self, cleared: Cleared[str], *, final: bool) -> None:
        """Show more of what was cleared: all of it, or up to its last whole word."""
        visible = cleared.value
        end = len(visible) if final else end_of_whole_words(visible)
        await self._emit(cleared, start=len(self._emitted), end=end)
        self._emitted = visible[: max(end, len(self._emitted))]

    async def _withhold(self, cleared: Cleared[str]) -> None:
        self.state = GateState.WITHHELD
        emitted = self._emitted
        if cleared.value.startswith(emitted):
            await self._emit(cleared, start=len(emitted), end=len(cleared.value))
        else:
            self._cleared = cleared.map(lambda _: emitted)

    async def _emit(self, cleared: Cleared[str], *, start: int, end: int) -> None:
        if end > start:
            await self._sink.emit(cleared.map(lambda text: TextDelta(text=text[start:end])))

"""Makes room in a full context, before a turn and between its steps, and tells it. Decides nothing itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from agentkit.agent.context import ContextWindow
from agentkit.agent.events import EventSink
from agentkit.agent.history import SessionHistory
from agentkit.memory.audit import AuditEvent
from agentkit.memory.transcript import Mark

_HEADER: Final = 16
"""More tokens than the header of a model's message has in any format."""


class Room:
    """The context window of one turn, and the history that it keeps inside."""

    def __init__(self, window: ContextWindow, history: SessionHistory, sink: EventSink) -> None:
        self._window = window
        self._history = history
        self._sink = sink

    async def make_for_turn(self, incoming: int) -> None:
        """Make room for a turn that begins with `incoming` tokens; what left is archived by a commit of its own.

        Raises:
            ContextLengthError: if there is no room for any output, whatever leaves.
        """
        entries = self._history.transcript.entries
        trimmed = await self._window.before_turn(entries, incoming=incoming)
        if trimmed is not None:
            self._history.trim(trimmed.entries)
            await self._history.commit(AuditEvent(kind="context_trimmed", details=asdict(trimmed.event)))
            await self._sink.trimmed(trimmed.event)

    async def make_for_step(self, settled: Mark) -> Mark:
        """Make room for the next step of a turn; return where `settled` is afterwards.

        Raises:
            ContextLengthError: as `make_for_turn`.
        """
        transcript = self._history.transcript
        trimmed = await self._window.between_steps(transcript.entries, turn=transcript.turn, incoming=_HEADER)
        if trimmed is None:
            return settled
        gone = len(transcript) - len(trimmed.entries)
        self._history.trim(trimmed.entries)
        await self._sink.trimmed(trimmed.event)
        return Mark(num_entries=max(0, settled.num_entries - gone), turn=settled.turn)

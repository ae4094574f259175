"""Brings a conversation into a room by a window's plan: cuts, drops, renders what stands elsewhere. No model."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace

from agentkit.inference.formats.base import Format
from agentkit.memory.transcript import Entry
from agentkit.memory.window import Window, WindowPlan, is_summary, plan_window
from agentkit.messages import Message, ToolSpec

_Placed = tuple[Entry, int | None]
"""An entry of the new conversation, and its index in the old one; None if its message is new."""


class Fitter:
    """Fits conversations of one format. Pure; a long conversation takes a while, so call it in a thread.

    What stays keeps its very ids, unless the format writes it differently where it now stands.
    """

    def __init__(self, format: Format, tools: Sequence[ToolSpec]) -> None:  # noqa: A002  # the field's word for it
        self._format = format
        self._tools = tuple(tools)

    def fit(
        self,
        entries: Sequence[Entry],
        window: Window,
        *,
        room: int,
        incoming: int,
        current_turn: int | None = None,
    ) -> tuple[WindowPlan, tuple[Entry, ...]]:
        """Return what `plan_window` plans, and the conversation that follows from it, without a new summary.

        Raises:
            ConfigurationError: if the format cannot express that conversation.
        """
        plan = plan_window(entries, window, room=room, incoming=incoming, current_turn=current_turn)
        fitted, excess = self._carry_out(entries, plan, window)
        if excess > 0:
            # Some formats write the tools into the first message: whichever comes to stand there grows.
            plan = plan_window(
                entries, window, room=room, incoming=incoming + excess, current_turn=current_turn
            )
            fitted, _ = self._carry_out(entries, plan, window)
        return plan, fitted

    def with_summary(self, entries: Sequence[Entry], summary: Entry) -> tuple[Entry, ...]:
        """Return the conversation with a summary, rendered, after its instructions; it replaces an earlier one.

        Raises:
            ConfigurationError: if the format cannot express that conversation.
        """
        placed: list[_Placed] = [
            (entry, index) for index, entry in enumerate(entries) if not is_summary(entry)
        ]
        placed.insert(sum(entry.turn == 0 for entry, _ in placed), (summary, None))
        return self._settled(entries, placed)

    def _carry_out(
        self, entries: Sequence[Entry], plan: WindowPlan, window: Window
    ) -> tuple[tuple[Entry, ...], int]:
        """Return the planned conversation, and by how many tokens its messages grew where they now stand."""
        shortened = list(entries)
        for index in plan.cut:
            shortened[index] = self._shortened(shortened[: index + 1], window.tool_result_tokens)
        dropped = frozenset(plan.drop)
        placed = [(entry, index) for index, entry in enumerate(shortened) if index not in dropped]
        settled = self._settled(shortened, placed)
        return settled, _num_tokens(settled) - _num_tokens(entry for entry, _ in placed)

    def _shortened(self, entries: Sequence[Entry], limit: int) -> Entry:
        """Return the last entry with as much of its beginning as the limit allows, and a note of what is missing.

        How long it gets is tried out after the messages of its turn alone.
        """
        entry = entries[-1]
        message = entry.message.value
        turn = [other.message.value for other in entries[:-1] if other.turn == entry.turn]

        def num_tokens(num_characters: int) -> int:
            said = [*turn, _beginning(message, num_characters)]
            return len(self._format.render(said, start=len(turn), add_generation_prompt=False))

        kept = max(bisect_right(range(len(message.content)), limit, key=num_tokens) - 1, 0)
        short = entry.message.map(lambda whole: _beginning(whole, kept))
        before = [other.message.value for other in entries[:-1]]
        return replace(entry, message=short, ids=tuple(self._written([*before, short.value], len(before))))

    def _settled(self, old: Sequence[Entry], placed: Sequence[_Placed]) -> tuple[Entry, ...]:
        """Return the entries with the ids that they have where they now stand."""
        settled = [entry for entry, _ in placed]
        was = [entry.message.value for entry in old]
        now = [entry.message.value for entry in settled]

        def settle(start: int, end: int) -> None:
            """Keep a stretch that the format writes as before; halve another, down to the message to render."""
            before = placed[start][1]
            ids = self._written(now[:end], start)
            if before is not None and ids == self._written(was[: before + end - start], before):
                return
            if end - start == 1:
                settled[start] = replace(settled[start], ids=tuple(ids), generated=False)
                return
            middle = (start + end) // 2
            settle(start, middle)
            settle(middle, end)

        for start, end in _stretches(placed):
            if start > 0 or placed[0][1] != 0:
                settle(start, end)
        return tuple(settled)

    def _written(self, messages: Sequence[Message], start: int) -> list[int]:
        return self._format.render(messages, tools=self._tools, start=start, add_generation_prompt=False)


def _stretches(placed: Sequence[_Placed]) -> Iterable[tuple[int, int]]:
    """Return where entries stand that stood together before as well; what is new stands alone."""
    start = 0
    for end in range(1, len(placed) + 1):
        previous = placed[end - 1][1]
        if end == len(placed) or previous is None or placed[end][1] != previous + 1:
            yield start, end
            start = end


def _num_tokens(entries: Iterable[Entry]) -> int:
    return sum(len(entry.ids) for entry in entries)


def _beginning(message: Message, num_characters: int) -> Message:
    content = message.content
    note = f"[cut: the first {num_characters} of {len(content)} characters are kept]"
    return replace(message, content=f"{content[:num_characters]}\n{note}")

"""Keeps the conversation of a session inside its model's context. Knows no store and no arithmetic of the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import anyio.to_thread

from agentkit.agent.doors import GuardedEngine
from agentkit.agent.events import ContextTrimmed
from agentkit.agent.fitting import Fitter
from agentkit.agent.summary import SummaryWriter, SupportsJudging
from agentkit.cleared import Cleared
from agentkit.errors import ConfigurationError, ContextLengthError, InferenceError
from agentkit.inference.base import Usage
from agentkit.inference.formats.base import Format
from agentkit.memory.transcript import Entry
from agentkit.memory.window import Window, WindowPlan, has_room, prompt_room
from agentkit.messages import ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """A conversation that was brought into the context. Its first `unchanged` entries are the same as before."""

    entries: tuple[Entry, ...]
    unchanged: int
    event: ContextTrimmed


class ContextWindow:
    """The window of one turn. Changes nothing itself: it returns the entries to go on from.

    `output_tokens` is what an output wants; `count` is told what a summary cost.
    """

    def __init__(
        self,
        window: Window,
        *,
        format: Format,  # noqa: A002  # the field's word for it
        tools: Cleared[tuple[ToolSpec, ...]],
        engine: GuardedEngine,
        judge: SupportsJudging,
        context_length: int,
        output_tokens: int,
        count: Callable[[Usage], None],
    ) -> None:
        self._window = window
        self._context_length = context_length
        self._room = prompt_room(context_length=context_length, output_tokens=output_tokens)
        self._fitter = Fitter(format, tools.value)
        self._writer = SummaryWriter(format=format, tools=tools, engine=engine, judge=judge, count=count)

    async def before_turn(self, entries: Sequence[Entry], *, incoming: int) -> Trimmed | None:
        """Make room for a turn that begins with `incoming` tokens; None where there is enough.

        Raises:
            ContextLengthError: if there is no room for any output, whatever leaves.
            ConfigurationError: if the format cannot express what would stay.
        """
        if self._has_room(entries, incoming, current_turn=None):
            return None
        plan, kept = await self._fit(entries, incoming, current_turn=None)
        noted = await self._summarised(entries, kept, plan, incoming) if plan.summarise else None
        return _trimmed(entries, plan, noted or kept, summarised=noted is not None)

    async def between_steps(self, entries: Sequence[Entry], *, turn: int, incoming: int) -> Trimmed | None:
        """Make room for the next step of a turn, which adds `incoming` tokens; nothing is summed up then.

        Raises:
            ContextLengthError, ConfigurationError: as `before_turn`.
        """
        if self._has_room(entries, incoming, current_turn=turn):
            return None
        plan, kept = await self._fit(entries, incoming, current_turn=turn)
        return _trimmed(entries, plan, kept, summarised=False)

    def _has_room(self, entries: Sequence[Entry], incoming: int, *, current_turn: int | None) -> bool:
        return has_room(entries, self._window, room=self._room, incoming=incoming, current_turn=current_turn)

    async def _fit(
        self, entries: Sequence[Entry], incoming: int, *, current_turn: int | None
    ) -> tuple[WindowPlan, tuple[Entry, ...]]:
        fit = partial(
            self._fitter.fit,
            entries,
            self._window,
            room=self._room,
            incoming=incoming,
            current_turn=current_turn,
        )
        plan, kept = await anyio.to_thread.run_sync(fit)
        prompt_tokens = _num_tokens(kept) + incoming
        if prompt_tokens >= self._context_length:
            raise ContextLengthError(prompt_tokens=prompt_tokens, context_length=self._context_length)
        return plan, kept

    async def _summarised(
        self, entries: Sequence[Entry], kept: Sequence[Entry], plan: WindowPlan, incoming: int
    ) -> tuple[Entry, ...] | None:
        """Return what is kept with a summary of what is not; None where shields or the model give none."""
        try:
            return await self._try_summary(entries[: plan.drop[-1] + 1], kept, incoming)
        except (InferenceError, ConfigurationError):
            return None

    async def _try_summary(
        self, leaving: Sequence[Entry], kept: Sequence[Entry], incoming: int
    ) -> tuple[Entry, ...] | None:
        max_tokens = self._window.summary_tokens
        fit = partial(
            self._fitter.fit,
            leaving,
            replace(self._window, strategy="drop", target=1.0, keep_turns=0),
            room=self._context_length - max_tokens,
            incoming=self._writer.request_tokens(leaving),
        )
        _, read = await anyio.to_thread.run_sync(fit)
        if not read or read[-1].turn == 0:
            return None  # no turn is short enough to be read
        summary = await self._writer.write(read, max_tokens=max_tokens)
        if summary is None:
            return None
        noted = await anyio.to_thread.run_sync(self._fitter.with_summary, kept, summary)
        return noted if _num_tokens(noted) + incoming <= self._room else None


def _trimmed(
    entries: Sequence[Entry], plan: WindowPlan, kept: tuple[Entry, ...], *, summarised: bool
) -> Trimmed | None:
    """Return what changed, or None where nothing could."""
    if not (plan.cut or plan.drop):
        return None
    event = ContextTrimmed(
        dropped_turns=plan.dropped_turns,
        cut_results=len(plan.cut),
        summarised=summarised,
        tokens_before=_num_tokens(entries),
        tokens_after=_num_tokens(kept),
    )
    pairs = zip(entries, kept, strict=False)
    unchanged = next((index for index, (was, now) in enumerate(pairs) if was is not now), len(kept))
    return Trimmed(entries=kept, unchanged=unchanged, event=event)


def _num_tokens(entries: Sequence[Entry]) -> int:
    return sum(len(entry.ids) for entry in entries)

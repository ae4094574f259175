"""What leaves the context when a conversation fills it. Arithmetic only: knows no tokenizer, format or model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, get_args

from agentkit.errors import ConfigurationError
from agentkit.memory.transcript import Entry
from agentkit.messages import Origin, Provenance, Role

Strategy = Literal["drop", "summarise"]

SUMMARY: Final = Provenance(origin=Origin.MEMORY, source="summary")
"""Where the summary of dropped turns comes from: what the model remembers, and so nobody's instruction."""

_LEAST_TOKENS: Final = 64
"""A cut result needs room for its header and a note; a summary for its introduction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a conversation stays inside the model's context.

    Nothing changes until a prompt would leave less room than the output wants. Then, in one step that leaves at
    most `target` of the room filled: tool results of older turns are cut to `tool_result_tokens` each, then the
    oldest turns are dropped, or replaced by one summary of at most about `summary_tokens`. Instructions, pinned
    messages and the current turn stay; so do the newest `keep_turns` turns, unless there is no other way.

    A summary is written between two turns only. So `summarise` acts when a turn like the last ones would not fit;
    where the context fills in the middle of a turn all the same, turns are dropped without one.
    """

    strategy: Strategy = "drop"
    target: float = 0.5
    keep_turns: int = 2
    tool_result_tokens: int = 256
    summary_tokens: int = 256

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise ConfigurationError(f'window.strategy must be "drop" or "summarise", got {self.strategy!r}')
        if not 0.0 < self.target <= 1.0:
            raise ConfigurationError(f"window.target must be in (0, 1], got {self.target!r}")
        if self.keep_turns < 0:
            raise ConfigurationError(f"window.keep_turns must be at least 0, got {self.keep_turns!r}")
        for name in ("tool_result_tokens", "summary_tokens"):
            tokens = getattr(self, name)
            if tokens < _LEAST_TOKENS:
                raise ConfigurationError(f"window.{name} must be at least {_LEAST_TOKENS}, got {tokens!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """What to change: the indices of the entries to cut and to drop, both rising.

    `summarise` says that a summary takes the place of what is dropped. The tokens are those of the whole prompt,
    what is about to come included; `tokens_after` is what the plan leaves at most. `fits` says that this leaves
    the room that the output wants.
    """

    cut: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()
    dropped_turns: int = 0
    summarise: bool = False
    tokens_before: int
    tokens_after: int
    fits: bool


def prompt_room(*, context_length: int, output_tokens: int) -> int:
    """Return how many tokens a prompt may have, so that an output has what it wants: at most half the context."""
    return context_length - min(output_tokens, context_length // 2)


def is_summary(entry: Entry) -> bool:
    """Whether an entry is the summary of turns that were dropped earlier."""
    return entry.turn == 0 and entry.message.value.provenance == SUMMARY


def has_room(
    entries: Sequence[Entry], window: Window, *, room: int, incoming: int, current_turn: int | None = None
) -> bool:
    """Whether nothing has to leave, so that `plan_window` changes nothing."""
    ahead = 0
    if window.strategy == "summarise" and current_turn is None:
        turns = [sum(len(entries[index].ids) for index in turn) for _, turn in _turns(entries)]
        # At most half of what a step frees: the steps stay large.
        ahead = min(max(turns[-2:], default=0), (room - _goal(room, window)) // 2)
    return sum(len(entry.ids) for entry in entries) + max(incoming, ahead) <= room


def plan_window(
    entries: Sequence[Entry],
    window: Window,
    *,
    room: int,
    incoming: int,
    current_turn: int | None = None,
) -> WindowPlan:
    """Plan how a conversation and `incoming` tokens more fit into a room; see `prompt_room`.

    Turns leave whole, but a pinned message stays with the step it belongs to and the message that opened its
    turn. `current_turn` has not ended: only where nothing else helps, results of its earlier steps are cut.
    """
    draft = _Draft(entries, window, incoming=incoming)
    before = draft.tokens
    if has_room(entries, window, room=room, incoming=incoming, current_turn=current_turn):
        return WindowPlan(tokens_before=before, tokens_after=before, fits=True)
    goal = _goal(room, window)
    turns = {number: list(indices) for number, indices in _turns(entries)}
    current = turns.pop(current_turn, []) if current_turn is not None else []
    finished = list(turns.values())
    num_older = max(len(finished) - window.keep_turns, 0)
    draft.shrink(finished[:num_older], goal)
    if draft.tokens > room:
        draft.shrink(finished[num_older:], goal)
    if draft.tokens > room:
        draft.cut_results(_earlier_steps(entries, current), goal)
    return draft.plan(tokens_before=before, room=room)


class _Draft:
    """A plan while it is made. `tokens` counts what it would leave, a new summary not included."""

    def __init__(self, entries: Sequence[Entry], window: Window, *, incoming: int) -> None:
        self._entries = entries
        self._result_tokens = window.tool_result_tokens
        self._summary_tokens = _new_summary_tokens(entries, window)
        self._cut: set[int] = set()
        self._drop: set[int] = set()
        self._dropped_turns = 0
        self.tokens = sum(len(entry.ids) for entry in entries) + incoming

    def shrink(self, turns: Sequence[Sequence[int]], goal: int) -> None:
        """Cut results of these turns, then drop the turns, oldest first, until the goal is met."""
        self.cut_results([index for turn in turns for index in turn], goal)
        for turn in turns:
            summary = self._summary_tokens if self._drop else None
            if self.tokens + (summary or 0) <= goal:
                return
            self._drop_turn(turn)

    def cut_results(self, indices: Iterable[int], goal: int) -> None:
        """Cut the tool results among these entries, oldest first, until the goal is met."""
        for index in indices:
            entry = self._entries[index]
            if self.tokens <= goal:
                return
            if _is_result(entry) and not entry.pinned and len(entry.ids) > self._result_tokens:
                self._cut.add(index)
                self.tokens -= len(entry.ids) - self._result_tokens

    def plan(self, *, tokens_before: int, room: int) -> WindowPlan:
        """Return what was decided. A summary is worth it only where it is shorter than what it replaces."""
        summary = self._summary_tokens
        dropped = sum(len(self._entries[index].ids) for index in self._drop)
        summarise = summary is not None and dropped > summary and self.tokens + summary <= room
        tokens_after = self.tokens + (summary if summary is not None and summarise else 0)
        return WindowPlan(
            cut=tuple(sorted(self._cut)),
            drop=tuple(sorted(self._drop)),
            dropped_turns=self._dropped_turns,
            summarise=summarise,
            tokens_before=tokens_before,
            tokens_after=tokens_after,
            fits=tokens_after <= room,
        )

    def _drop_turn(self, turn: Sequence[int]) -> None:
        leaving = _droppable(self._entries, turn)
        for index in leaving:
            self.tokens -= self._result_tokens if index in self._cut else len(self._entries[index].ids)
        self._cut.difference_update(leaving)
        self._drop.update(leaving)
        self._dropped_turns += bool(leaving)


def _goal(room: int, window: Window) -> int:
    return int(room * window.target)


def _new_summary_tokens(entries: Sequence[Entry], window: Window) -> int | None:
    """Return what a new summary adds at most, given that it replaces an earlier one; None if none is written."""
    if window.strategy == "drop":
        return None
    earlier = sum(len(entry.ids) for entry in entries if is_summary(entry))
    return max(window.summary_tokens - earlier, 0)


def _turns(entries: Sequence[Entry]) -> Iterator[tuple[int, Iterator[int]]]:
    """Return each turn's number with the indices of its entries; what stands before the first turn is none."""
    started = (index for index, entry in enumerate(entries) if entry.turn > 0)
    return groupby(started, key=lambda index: entries[index].turn)


def _droppable(entries: Sequence[Entry], turn: Sequence[int]) -> list[int]:
    """Return the entries of a turn that may leave: all but the pinned steps, and then the opening one."""
    steps = _steps(entries, turn)
    kept = [step for step in steps if any(entries[index].pinned for index in step)]
    staying = {index for step in [*steps[:1], *kept] for index in step} if kept else set()
    return [index for index in turn if index not in staying]


def _earlier_steps(entries: Sequence[Entry], turn: Sequence[int]) -> list[int]:
    return [index for step in _steps(entries, turn)[:-1] for index in step]


def _steps(entries: Sequence[Entry], turn: Sequence[int]) -> list[list[int]]:
    """Split a turn into its steps: a message and, where it makes calls, all their answers and corrections."""
    steps: list[list[int]] = []
    for index in turn:
        if steps and _is_result(entries[index]):
            steps[-1].append(index)
        else:
            steps.append([index])
    return steps


def _is_result(entry: Entry) -> bool:
    return entry.message.value.role is Role.TOOL

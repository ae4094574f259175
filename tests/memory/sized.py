"""Conversations by their sizes alone, for the tests of the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import anyio

from agentkit.cleared import Cleared
from agentkit.memory.transcript import Entry
from agentkit.memory.window import SUMMARY, Window, WindowPlan, is_summary, plan_window
from agentkit.messages import Message, Role, ToolCall
from tests.clearing import cleared

ROOM = 1000


@cache
def _cleared() -> Cleared[Message]:
    return anyio.run(cleared, Message.user(""))


def entry(message: Message, tokens: int, turn: int, *, pinned: bool = False) -> Entry:
    name = f"{turn}.{message.role}.{tokens}"
    return Entry(
        message=_cleared().map(lambda _: message),
        ids=(turn,) * tokens,
        turn=turn,
        message_id=name,
        pinned=pinned,
    )


def system(tokens: int = 50) -> Entry:
    return entry(Message.system("rules"), tokens, 0)


def summary(tokens: int) -> Entry:
    return entry(Message(role=Role.USER, content="earlier", provenance=SUMMARY), tokens, 0)


@dataclass(frozen=True)
class Step:
    """A step of a turn: the sizes of its results; none is one attempt that got a correction."""

    results: tuple[int, ...] = ()
    pinned: bool = False


def turn_of(
    number: int, *steps: Step, question: int = 20, answer: int | None = 20, pinned: bool = False
) -> list[Entry]:
    entries = [entry(Message.user("question"), question, number, pinned=pinned)]
    for index, step in enumerate(steps):
        calls = tuple(
            ToolCall(id=f"{number}.{index}.{i}", name="look", arguments={}) for i in range(len(step.results))
        )
        entries.append(entry(Message.assistant("", calls), 15, number))
        for call, tokens in zip(calls, step.results, strict=True):
            entries.append(entry(Message.tool("result", call=call), tokens, number, pinned=step.pinned))
        if not calls:
            correction = replace(Message.tool("correction", call=ToolCall(id="", name="", arguments={})))
            entries.append(entry(replace(correction, call_id=None), 30, number, pinned=step.pinned))
    if answer is not None:
        entries.append(entry(Message.assistant("answer"), answer, number))
    return entries


def plan(
    entries: Sequence[Entry], window: Window | None = None, *, incoming: int = 0, current: int | None = None
) -> WindowPlan:
    return plan_window(entries, window or Window(), room=ROOM, incoming=incoming, current_turn=current)


def applied(entries: Sequence[Entry], made: WindowPlan, window: Window) -> list[Entry]:
    """What a plan leaves, with the largest summary that it allows for."""
    kept = []
    for index, one in enumerate(entries):
        if index not in made.drop:
            kept.append(replace(one, ids=one.ids[: window.tool_result_tokens]) if index in made.cut else one)
    if not made.summarise:
        return kept
    earlier = max([len(one.ids) for one in kept if is_summary(one)], default=0)
    kept = [one for one in kept if not is_summary(one)]
    head = sum(one.turn == 0 for one in kept)
    return [*kept[:head], summary(max(window.summary_tokens, earlier)), *kept[head:]]


def num_tokens(entries: Sequence[Entry]) -> int:
    return sum(len(one.ids) for one in entries)


def turns_in(entries: Sequence[Entry]) -> list[int]:
    return sorted({one.turn for one in entries})


def small(**options) -> Window:
    return Window(**{"tool_result_tokens": 64, "summary_tokens": 64, **options})

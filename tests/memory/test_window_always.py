"""What is true of every plan for a full context, and of a long conversation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.memory.transcript import Entry
from agentkit.memory.window import Window, plan_window
from agentkit.messages import Role
from tests.memory.sized import (
    ROOM,
    Step,
    applied,
    num_tokens,
    plan,
    small,
    summary,
    system,
    turn_of,
    turns_in,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Entry]:
    entries = [system(draw(st.integers(0, 300)))] if draw(st.booleans()) else []
    if draw(st.integers(0, 3)) == 0:
        entries.append(summary(draw(st.integers(1, 200))))
    for number in draw(st.lists(st.integers(1, 30), unique=True, max_size=8).map(sorted)):
        steps = draw(
            st.lists(
                st.builds(
                    Step,
                    st.lists(st.integers(1, 400), max_size=3).map(tuple),
                    pinned=st.integers(0, 9).map(lambda drawn: drawn == 0),
                ),
                max_size=3,
            )
        )
        entries += turn_of(
            number,
            *steps,
            question=draw(st.integers(1, 300)),
            answer=draw(st.none() | st.integers(1, 200)),
            pinned=draw(st.integers(0, 9)) == 0,
        )
    return entries


def windows() -> st.SearchStrategy[Window]:
    return st.builds(
        Window,
        strategy=st.sampled_from(["drop", "summarise"]),
        target=st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]),
        keep_turns=st.integers(0, 4),
        tool_result_tokens=st.sampled_from([64, 128, 256]),
        summary_tokens=st.sampled_from([64, 200]),
    )


def incoming_tokens() -> st.SearchStrategy[int]:
    return st.sampled_from([0, 1, 50, 400, 1500])


def current_turn_of(entries: Sequence[Entry], running: bool) -> int | None:
    return entries[-1].turn if running and entries and entries[-1].turn else None


@given(conversations(), windows(), incoming_tokens(), st.booleans())
def test_the_result_is_what_was_planned_and_fits_or_the_plan_says_that_it_cannot(
    entries, window, incoming, running
):
    made = plan(entries, window, incoming=incoming, current=current_turn_of(entries, running))
    left = num_tokens(applied(entries, made, window)) + incoming
    assert made.tokens_before == num_tokens(entries) + incoming
    assert made.tokens_after == left <= made.tokens_before
    assert made.fits is (left <= ROOM)


@given(conversations(), windows(), incoming_tokens(), st.booleans())
def test_calls_and_answers_stay_together(entries, window, incoming, running):
    made = plan(entries, window, incoming=incoming, current=current_turn_of(entries, running))
    kept = applied(entries, made, window)
    asked = [call.id for one in kept for call in one.message.value.tool_calls]
    answered = [one.message.value.call_id for one in kept if one.message.value.call_id]
    assert asked == answered
    for before, one in pairwise([system(), *kept]):
        if one.message.value.role is Role.TOOL:
            assert before.message.value.role in (Role.TOOL, Role.ASSISTANT)
            assert before.turn == one.turn


@given(conversations(), windows(), incoming_tokens(), st.booleans())
def test_what_must_stay_stays_whole_and_in_order(entries, window, incoming, running):
    current = current_turn_of(entries, running)
    made = plan(entries, window, incoming=incoming, current=current)
    kept = [index for index in range(len(entries)) if index not in made.drop]
    must = [i for i, one in enumerate(entries) if one.pinned or one.turn in (0, current)]
    assert set(must) <= set(kept)
    last_step = max(
        (i for i in kept if entries[i].turn == current and entries[i].message.value.role is not Role.TOOL),
        default=0,
    )
    for index in made.cut:
        assert entries[index].message.value.role is Role.TOOL
        assert not entries[index].pinned
        assert entries[index].turn != current or index < last_step
    # A turn begins with the message that opened it, and only older turns have gone.
    for number in {entries[index].turn for index in kept} - {0}:
        first = next(index for index, one in enumerate(entries) if one.turn == number)
        assert first in kept
    whole = [n for n in turns_in(entries) if not any(entries[i].turn == n for i in made.drop) and n]
    touched = [entries[i].turn for i in made.drop]
    unpinned = [n for n in whole if not any(one.pinned for one in entries if one.turn == n)]
    assert max(touched, default=0) < min((n for n in unpinned), default=99)


@given(conversations(), windows(), incoming_tokens(), st.booleans())
def test_planning_again_plans_the_same_and_planning_the_result_plans_nothing(
    entries, window, incoming, running
):
    current = current_turn_of(entries, running)
    made = plan(entries, window, incoming=incoming, current=current)
    assert made == plan(entries, window, incoming=incoming, current=current)
    again = plan(applied(entries, made, window), window, incoming=incoming, current=current)
    assert (again.cut, again.drop, again.fits) == ((), (), made.fits)


@given(conversations(), windows(), incoming_tokens())
def test_a_step_reaches_the_target_unless_nothing_older_is_left(entries, window, incoming):
    made = plan(entries, window, incoming=incoming)
    if not (made.drop or made.cut) or made.tokens_after <= int(ROOM * window.target):
        return
    finished = [number for number in turns_in(entries) if number]
    older = finished[: max(len(finished) - window.keep_turns, 0)]
    kept = applied(entries, made, window)
    for number in older:
        left = [one for one in kept if one.turn == number]
        assert not left or any(one.pinned for one in left)
        assert all(
            len(one.ids) <= window.tool_result_tokens or one.pinned
            for one in left
            if one.message.value.role is Role.TOOL
        )


# A long conversation


@pytest.mark.parametrize("strategy", ["drop", "summarise"])
@pytest.mark.parametrize("target", [0.25, 0.5, 0.8])
def test_a_long_conversation_changes_in_few_steps_and_only_grows_between_them(strategy, target):
    window, room = small(strategy=strategy, target=target), 4000
    entries = [system()]
    said = steps = 0
    for number in range(1, 201):
        made = plan_window(entries, window, room=room, incoming=25)
        if made.drop or made.cut:
            steps += 1
            assert made.tokens_before > room - (200 if strategy == "summarise" else 0)
            assert made.tokens_after <= room * target
            entries = applied(entries, made, window)
            said += 64 if made.summarise else 0
        before = [token for one in entries for token in one.ids]
        entries = [*entries, *turn_of(number, Step((40 + number % 90,)), question=25)]
        said += num_tokens(entries) - len(before)
        assert [token for one in entries for token in one.ids][: len(before)] == before
    freed = room * (1 - target) / (2 if strategy == "summarise" else 1)
    assert 2 < steps <= said / freed

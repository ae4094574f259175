"""What leaves a full context: old results first, whole turns then, in steps; what must stay stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.cleared import Cleared
from agentkit.errors import ConfigurationError
from agentkit.memory.transcript import Entry
from agentkit.memory.window import SUMMARY, Window, WindowPlan, has_room, is_summary, plan_window, prompt_room
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


# What changes, and in which order


def test_nothing_changes_while_everything_fits():
    entries = [system(), *turn_of(1, Step((600,))), *turn_of(2)]
    made = plan(entries, incoming=ROOM - num_tokens(entries))
    assert (made.cut, made.drop, made.fits) == ((), (), True)
    assert made.tokens_before == made.tokens_after == ROOM


def test_results_of_older_turns_are_cut_first_and_only_as_many_as_it_takes():
    entries = [system(), *turn_of(1, Step((400, 300))), *turn_of(2, Step((200,))), *turn_of(3), *turn_of(4)]
    made = plan(entries, small(target=0.7))
    assert [len(entries[index].ids) for index in made.cut] == [400, 300]
    assert made.drop == ()
    assert made.tokens_after == num_tokens(entries) - (400 - 64) - (300 - 64) <= 700


def test_the_oldest_turns_are_dropped_where_cutting_is_not_enough():
    entries = [system(), *(one for number in range(1, 12) for one in turn_of(number, Step((60,))))]
    made = plan(entries, small())
    assert made.cut == ()
    assert {entries[index].turn for index in made.drop} == set(range(1, 1 + made.dropped_turns))
    assert 385 < made.tokens_after <= 500


@pytest.mark.parametrize("keep_turns", [0, 1, 2, 3])
def test_the_newest_turns_stay_even_above_the_target(keep_turns: int):
    entries = [system(), *(one for number in range(1, 6) for one in turn_of(number, question=220))]
    made = plan(entries, Window(keep_turns=keep_turns, target=0.1))
    kept = turns_in(applied(entries, made, Window()))
    assert kept == [0, *range(6 - keep_turns, 6)]


def test_the_newest_turns_leave_where_there_is_no_other_way():
    entries = [system(), *turn_of(1), *turn_of(2, question=600), *turn_of(3, question=400)]
    made = plan(entries)
    assert turns_in(applied(entries, made, Window())) == [0, 3]


def test_the_current_turn_stays_but_for_results_of_its_earlier_steps():
    current = turn_of(2, Step((500,)), Step((300,)), Step((400,)), answer=None)
    entries = [system(), *turn_of(1), *current]
    made = plan(entries, small(target=0.7), current=2)
    assert {entries[index].turn for index in made.drop} == {1}
    assert [len(entries[index].ids) for index in made.cut] == [500, 300]
    assert made.fits


def test_results_of_the_current_turn_are_cut_last():
    entries = [system(), *turn_of(1, question=700), *turn_of(2, Step((400,)), Step((50,)), answer=None)]
    made = plan(entries, current=2)
    assert (made.cut, made.dropped_turns) == ((), 1)


def test_what_cannot_be_made_to_fit_is_said():
    entries = [system(), *turn_of(1), *turn_of(2, question=1200, answer=None)]
    made = plan(entries, current=2)
    assert made.dropped_turns == 1
    assert not made.fits
    assert made.tokens_after == 1250


def test_pinned_messages_stay_with_their_step_and_the_question_of_their_turn():
    pinned = turn_of(1, Step((30,)), Step((90, 70), pinned=True))
    pinned[4] = replace(pinned[4], pinned=True)
    entries = [system(), *pinned, *turn_of(2, question=900), *turn_of(3)]
    made = plan(entries, small(keep_turns=1))
    kept = [entries[index] for index in range(len(entries)) if index not in made.drop]
    assert [(one.turn, one.message.value.role.value) for one in kept if one.turn == 1] == [
        (1, "user"),
        (1, "assistant"),
        (1, "tool"),
        (1, "tool"),
    ]
    assert made.cut == ()
    assert made.dropped_turns == 2


def test_a_pinned_question_stays_alone():
    entries = [system(), *turn_of(1, Step((300,)), pinned=True), *turn_of(2, question=900), *turn_of(3)]
    made = plan(entries, Window(keep_turns=1))
    kept = [entries[index] for index in range(len(entries)) if index not in made.drop]
    assert [one.message.value.role for one in kept if one.turn == 1] == [Role.USER]


# Summaries


def test_room_is_left_for_the_summary():
    entries = [system(), *(one for number in range(1, 30) for one in turn_of(number))]
    made = plan(entries, small(strategy="summarise"))
    dropped = num_tokens(entries) - num_tokens([entries[index] for index in made.drop])
    assert made.summarise
    assert made.tokens_after == num_tokens(entries) - num_tokens([entries[i] for i in made.drop]) + 64
    assert dropped + 64 <= 500


def test_a_summary_that_would_be_longer_than_the_turns_is_not_written():
    entries = [
        system(),
        *turn_of(1, question=5, answer=5),
        *turn_of(2, Step((600,))),
        *turn_of(3, question=400),
    ]
    made = plan(entries, small(strategy="summarise", target=0.9))
    assert (made.dropped_turns, len(made.cut), made.summarise) == (1, 1, False)


def test_room_for_a_summary_is_made_only_where_turns_leave():
    entries = [system(), *turn_of(1, Step((600,))), *turn_of(2, question=290), *turn_of(3)]
    made = plan(entries, small(strategy="summarise", target=0.55))
    assert 550 - 64 < made.tokens_after <= 550
    assert (made.drop, made.summarise) == ((), False)


def test_turns_are_summed_up_when_another_like_the_last_two_would_not_fit():
    entries = [system(), *(one for number in range(1, 9) for one in turn_of(number, question=80))]
    entries += [*turn_of(9, question=5, answer=5)]
    assert num_tokens(entries) == 860
    window = small(strategy="summarise")
    assert plan(entries, window, incoming=10).drop == ()
    entries[2] = replace(entries[2], ids=(1,) * 65)
    assert plan(entries, window, incoming=10).summarise
    assert plan(entries, window, incoming=10, current=9).drop == ()
    assert plan(entries, small(), incoming=10).drop == ()


def test_one_long_turn_does_not_make_every_later_one_a_step():
    entries = [system(), *turn_of(1), *turn_of(2, question=600)]
    assert num_tokens(entries) == 710
    assert has_room(entries, small(strategy="summarise"), room=ROOM, incoming=10)
    assert not has_room(entries, small(strategy="summarise"), room=940, incoming=10)


def test_a_summary_for_which_there_is_no_room_is_not_written():
    entries = [system(), *turn_of(1, question=80), *turn_of(2, question=910)]
    made = plan(entries, small(strategy="summarise", keep_turns=1))
    assert (made.dropped_turns, made.summarise, made.fits) == (1, False, True)


def test_an_earlier_summary_stays_and_makes_room_for_the_next():
    entries = [system(), summary(60), *(one for number in range(1, 30) for one in turn_of(number))]
    for window in (small(), small(strategy="summarise")):
        made = plan(entries, window)
        assert 1 not in made.drop
        expected = num_tokens(entries) - num_tokens([entries[index] for index in made.drop])
        assert made.tokens_after == expected + (4 if made.summarise else 0)


# Settings


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"strategy": "forget"}, 'must be "drop" or "summarise", got \'forget\''),
        ({"target": 0.0}, r"window\.target must be in \(0, 1\], got 0.0"),
        ({"target": 1.1}, r"window\.target must be in \(0, 1\], got 1.1"),
        ({"target": float("nan")}, r"window\.target must be in \(0, 1\], got nan"),
        ({"keep_turns": -1}, r"window\.keep_turns must be at least 0, got -1"),
        ({"tool_result_tokens": 63}, r"window\.tool_result_tokens must be at least 64, got 63"),
        ({"summary_tokens": 0}, r"window\.summary_tokens must be at least 64, got 0"),
    ],
)
def test_a_wrong_setting_is_refused(options: dict[str, Any], match: str):
    with pytest.raises(ConfigurationError, match=match):
        Window(**options)


@pytest.mark.parametrize(("output", "room"), [(100, 900), (500, 500), (800, 500), (5000, 500)])
def test_an_output_may_want_at_most_half_the_context(output: int, room: int):
    assert prompt_room(context_length=1000, output_tokens=output) == room


# What is always true


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

"""What leaves a full context: old results first, whole turns then; and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentkit.errors import ConfigurationError
from agentkit.memory.window import Window, has_room, prompt_room
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
    sizes = [130, 30, *[80] * 6]
    entries = [system()]
    entries += [one for number, size in enumerate(sizes, 1) for one in turn_of(number, question=size)]
    entries += turn_of(9, question=5, answer=5)
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

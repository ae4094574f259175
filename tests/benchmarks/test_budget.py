"""How many rounds a budget of time allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from benchmarks.engines.budget import rounds_within


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def rounds_of(seconds: Sequence[float], end: float) -> int:
    """Run as many rounds as fit, of which each takes its `seconds`."""
    clock, done = Clock(), 0
    for number in rounds_within(end, len(seconds), clock):
        clock.now += seconds[number]
        done += 1
    return done


@pytest.mark.parametrize(("end", "rounds"), [(math.inf, 4), (40.0, 4), (39.0, 3), (20.0, 2), (0.0, 1)])
def test_a_round_begins_if_it_fits_into_the_budget_and_the_first_one_always(end: float, rounds: int):
    assert rounds_of([10.0] * 4, end) == rounds


def test_a_round_is_expected_to_take_as_long_as_the_longest():
    assert rounds_of([10.0, 30.0, 10.0, 10.0], 69.0) == 2
    assert rounds_of([10.0, 30.0, 10.0, 10.0], 80.0) == 4

"""A running measure follows what is measured."""

from __future__ import annotations

import pytest

from agentkit.inference.speed import Speed


def test_nothing_is_known_before_the_first_measure():
    assert Speed().seconds_for(10) is None


def test_the_first_measure_counts_wholly_and_later_ones_shift_it():
    speed = Speed()
    speed.measured(10, 1.0)
    assert speed.seconds_for(100) == pytest.approx(10.0)
    speed.measured(10, 3.0)
    assert 10.0 < (speed.seconds_for(100) or 0) < 30.0
    for _ in range(50):
        speed.measured(10, 3.0)
    assert speed.seconds_for(100) == pytest.approx(30.0, rel=1e-3)

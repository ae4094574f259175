"""Drafts are as long as measured costs and chances make worth it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.inference.speculation import MAX_ROWS, PassCosts, worthwhile
from tests.inference.drafts import FreeDrafts

ENDLESS = 1000


def powers(chance: float, count: int = 15) -> list[float]:
    return [chance**number for number in range(1, count + 1)]


def costs(**drafted: float) -> PassCosts:
    """Return costs where a plain pass of one takes a second, and one with drafts what is said."""
    measured = PassCosts()
    measured.measured(1.0, rows=1, sequences=1)
    for rows, seconds in drafted.items():
        measured.measured(seconds, rows=int(rows.removeprefix("rows")), sequences=1)
    return measured


def test_before_a_plain_pass_was_measured_nothing_is_drafted():
    assert worthwhile([powers(0.99)], PassCosts(), most=ENDLESS) == [0]


@pytest.mark.parametrize(("chance", "count"), [(0.99, 15), (0.8, 7), (0.5, 1), (0.05, 0)])
def test_the_surer_the_longer(chance, count):
    measured = costs(rows2=1.1, rows4=1.5, rows8=2.0, rows16=3.0)
    assert worthwhile([powers(chance)], measured, most=ENDLESS) == [count]


def test_dear_passes_are_not_run():
    assert worthwhile([powers(0.99)], costs(rows2=2.0, rows4=4.0, rows8=8.0, rows16=16.0), most=ENDLESS) == [
        0
    ]


def test_a_cost_that_was_measured_once_too_high_fades():
    measured = costs(rows2=50.0, rows4=50.0, rows8=50.0, rows16=50.0)
    counts = [worthwhile([powers(0.99)], measured, most=ENDLESS)[0] for _ in range(300)]
    assert counts[0] == 0
    assert counts[-1] > 0


def test_the_likeliest_tokens_go_first_whosever_they_are():
    assert worthwhile([powers(0.2), powers(0.99), []], FreeDrafts(), most=10) == [0, 10, 0]


def test_beside_many_sequences_nothing_is_drafted():
    assert sum(worthwhile([powers(0.99)] * MAX_ROWS, FreeDrafts(), most=ENDLESS)) == 0
    assert sum(worthwhile([powers(0.99)] * (MAX_ROWS - 1), FreeDrafts(), most=ENDLESS)) == 1


@given(
    chances=st.lists(st.floats(0.01, 1.0).map(powers), min_size=1, max_size=40),
    prices=st.lists(st.floats(0.5, 20.0), min_size=6, max_size=6),
    most=st.integers(0, 40),
)
def test_no_draft_is_longer_than_allowed_or_likely_to_lose(chances, prices, most):
    measured = PassCosts()
    sequences = len(chances)
    measured.measured(1.0, rows=sequences, sequences=sequences)
    for power, price in enumerate(prices, start=1):
        if 1 << power > sequences:
            measured.measured(price, rows=1 << power, sequences=sequences)
    counts = worthwhile(chances, measured, most=most)
    rows = sequences + sum(counts)
    assert sum(counts) <= most
    assert rows <= max(MAX_ROWS, sequences)
    if sum(counts) > 0:
        tokens = sequences + sum(sum(row[:count]) for row, count in zip(chances, counts, strict=True))
        assert tokens / measured.drafted(rows, 1.0, sequences=sequences) > sequences

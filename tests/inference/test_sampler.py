"""How the next token is drawn from logits."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import InferenceError
from agentkit.inference.base import SamplingParams
from agentkit.inference.sampler import (
    NO_TOKEN,
    Draw,
    Sampler,
    draw_settings,
    draw_tokens,
    most_likely_tokens,
)

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.5, -1.0])


def draws(params: SamplingParams, count: int, logits: torch.Tensor = LOGITS) -> list[int]:
    sampler = Sampler(params)
    return [sampler.draw(logits) for _ in range(count)]


def test_temperature_zero_is_the_most_likely_token():
    assert draws(SamplingParams(temperature=0.0), 5) == [1] * 5


def test_same_seed_draws_the_same_ids_and_another_seed_others():
    first = draws(SamplingParams(temperature=2.0, seed=1), 40)
    assert draws(SamplingParams(temperature=2.0, seed=1), 40) == first
    assert draws(SamplingParams(temperature=2.0, seed=2), 40) != first


def test_no_seed_draws_afresh():
    params = SamplingParams(temperature=2.0)
    assert draws(params, 60) != draws(params, 60)


@pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**80])
def test_any_integer_is_a_seed(seed):
    assert draws(SamplingParams(temperature=1.0, seed=seed), 3) == draws(
        SamplingParams(temperature=1.0, seed=seed), 3
    )


def test_frequencies_follow_the_softmax_at_the_temperature():
    temperature, count = 1.5, 20_000
    observed = Counter(draws(SamplingParams(temperature=temperature, seed=0), count))
    expected = torch.softmax(LOGITS / temperature, dim=-1)
    for token_id, probability in enumerate(expected.tolist()):
        assert observed[token_id] / count == pytest.approx(probability, abs=0.015)


@pytest.mark.parametrize("temperature", [1e-40, 1e-50, 5e-324])
def test_a_tiny_temperature_is_greedy_and_does_not_overflow(temperature):
    assert draws(SamplingParams(temperature=temperature, seed=0), 5) == [1] * 5


def test_a_tiny_top_p_is_greedy():
    assert draws(SamplingParams(temperature=5.0, top_p=1e-9, seed=0), 5) == [1] * 5


@given(
    values=st.lists(st.floats(-10, 10), min_size=1, max_size=30),
    top_p=st.floats(0.01, 1.0),
    seed=st.integers(0, 1000),
)
def test_top_p_draws_only_from_the_smallest_set_that_holds_the_mass(values, top_p, seed):
    logits = torch.tensor(values)
    token_id = Sampler(SamplingParams(temperature=1.0, top_p=top_p, seed=seed)).draw(logits)
    probabilities = torch.softmax(logits.double(), dim=-1)
    more_likely = float(probabilities[probabilities > probabilities[token_id]].sum())
    assert more_likely < top_p + 1e-5


@pytest.mark.parametrize("params", [SamplingParams(), SamplingParams(temperature=3.0, top_p=0.99, seed=0)])
def test_a_masked_token_is_never_drawn(params):
    masked = LOGITS.clone()
    masked[[0, 1, 3]] = -math.inf
    assert set(draws(params, 200, masked)) <= {2, 4}


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_allow_no_token_are_an_error(value, temperature):
    with pytest.raises(InferenceError, match="no token can be drawn"):
        Sampler(SamplingParams(temperature=temperature)).draw(torch.full((4,), value))


def test_one_logit_that_is_no_number_is_an_error():
    with pytest.raises(InferenceError, match="nan"):
        Sampler(SamplingParams()).draw(torch.tensor([1.0, math.nan, 3.0]))


@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.floats(-10, 10, width=32), min_size=6, max_size=6),
            st.sampled_from([0.0, 1e-50, 0.7, 3.0]),
            st.sampled_from([1e-9, 0.3, 0.9, 1.0]),
            st.integers(0, 1000),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_batch_draws_what_each_row_draws_alone(rows):
    samplers = [Sampler(SamplingParams(temperature=t, top_p=p, seed=seed)) for _, t, p, seed in rows]
    logits = torch.tensor([values for values, *_ in rows])
    together = draw_tokens(logits, draw_settings([sampler.next for sampler in samplers]))
    assert together.tolist() == [sampler.draw(row) for sampler, row in zip(samplers, logits, strict=True)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_in_a_batch_a_row_of_no_numbers_draws_no_token(bad, temperature):
    logits = torch.stack((torch.full((5,), bad), LOGITS))
    settings = draw_settings([Draw(temperature=temperature, top_p=0.9, uniform=0.5)] * 2)
    assert draw_tokens(logits, settings).tolist() == [NO_TOKEN, 1]
    assert most_likely_tokens(logits).tolist() == [NO_TOKEN, 1]


def test_a_draw_that_happened_elsewhere_counts():
    params = SamplingParams(temperature=2.0, seed=1)
    inside, outside = Sampler(params), Sampler(params)
    outside.draw(LOGITS)
    inside.advance()
    assert inside.next == outside.next

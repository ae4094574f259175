"""A generation that goes on before anybody waits for it, and what is left of it when it is dropped."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from agentkit.errors import ContextLengthError, InferenceError
from agentkit.inference.base import Grammar, Observe, SamplingParams
from tests.inference.calling import assert_nothing_in_use, generate_all, greedy_ids, token_ids, wait_for
from tests.inference.tiny import TINY_CONTEXT


async def test_it_is_computed_to_its_end_without_a_reader(engine, tiny_model, scope):
    begun = engine.begin(token_ids(20), SamplingParams(max_tokens=5), scope=scope)
    await wait_for(engine, lambda stats: stats.active_requests == 0)
    tokens = [token async for token in begun]
    assert [token.id for token in tokens] == greedy_ids(tiny_model, token_ids(20), 5)
    assert [token.usage is not None for token in tokens] == [False] * 4 + [True]


@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_dropped_it_leaves_nothing_past_what_is_kept_or_had_been_cached_before(engine, scope, taken):
    known, new = token_ids(20), [*token_ids(20), *token_ids(30, start=50)]
    await generate_all(engine, known, scope, max_tokens=1)
    begun = engine.begin(new, SamplingParams(max_tokens=4000), scope=scope)
    for _ in range(taken):
        await anext(begun)
    await begun.drop(keep=5)
    await assert_nothing_in_use(engine)
    async with engine.pinned(new, scope=scope) as tokens:
        assert tokens <= len(known)
    async with engine.pinned(known, scope=scope) as tokens:
        assert tokens >= len(known) - 1
    with pytest.raises(StopAsyncIteration):
        await anext(begun)


async def test_cancelled_it_leaves_what_was_computed(engine, scope):
    begun = engine.begin(token_ids(20), SamplingParams(max_tokens=4000), scope=scope)
    await anext(begun)
    begun.cancel()
    await assert_nothing_in_use(engine)
    async with engine.pinned(token_ids(20), scope=scope) as tokens:
        assert tokens == 20


async def test_a_prompt_that_does_not_fit_is_refused_at_once(engine):
    with pytest.raises(ContextLengthError):
        engine.begin(token_ids(TINY_CONTEXT), SamplingParams())


async def test_on_a_closed_engine_it_ends_with_an_error_and_can_be_dropped(open_engine):
    engine = open_engine()
    begun = engine.begin(token_ids(20), SamplingParams(max_tokens=4000))
    await engine.close()
    with pytest.raises(InferenceError):
        _ = [token async for token in begun]
    await begun.drop(keep=0)
    begun.cancel()
    with pytest.raises(InferenceError, match="closed"):
        engine.begin(token_ids(20), SamplingParams())


@pytest.mark.parametrize(("start", "stop"), [(0, 50), (7, 41), (49, 50)])
async def test_it_takes_hidden_states_along(engine, tiny_model, scope, start, stop):
    prompt = token_ids(50)
    expected = await engine.hidden_states(prompt, (1, 0), scope=f"{scope} alone")
    observe = Observe(start=start, stop=stop, layers=(1, 0))
    begun = engine.begin(prompt, SamplingParams(max_tokens=5), scope=scope, observe=observe)
    states = await begun.states.receive()
    np.testing.assert_allclose(states, expected[start:stop], atol=1e-4)
    assert begun.states.fingerprint == engine.fingerprint
    assert [token.id async for token in begun] == greedy_ids(tiny_model, prompt, 5)


async def test_what_is_cached_is_used_up_to_where_states_are_wanted(engine, scope):
    prompt = token_ids(50)
    await generate_all(engine, prompt, scope, max_tokens=1)
    expected = await engine.hidden_states(prompt, (1,), scope=f"{scope} alone")
    observe = Observe(start=33, stop=40, layers=(1,))
    begun = engine.begin(prompt, SamplingParams(max_tokens=1), scope=scope, observe=observe)
    np.testing.assert_allclose(await begun.states.receive(), expected[33:40], atol=1e-4)
    (token,) = [token async for token in begun]
    assert token.usage.cached_tokens == 33


@pytest.mark.parametrize("end", ["cancel", "drop"])
async def test_whoever_waits_for_states_of_what_is_dropped_gets_none(open_engine, end):
    engine = open_engine()
    observe = Observe(start=0, stop=TINY_CONTEXT - 9, layers=(1,))
    begun = engine.begin(token_ids(TINY_CONTEXT - 8), SamplingParams(), observe=observe)
    if end == "cancel":
        begun.cancel()
    else:
        await begun.drop(keep=0)
    with anyio.fail_after(10):
        states = [await begun.states.receive() for _ in range(2)]  # as often as one asks
    assert states[0] is states[1]
    assert states[0] is None or len(states[0]) == TINY_CONTEXT - 9  # it may have been faster


async def test_whoever_waits_for_states_of_what_failed_gets_none(open_engine):
    engine = open_engine()
    observe = Observe(start=0, stop=20, layers=(1,))
    begun = engine.begin(
        token_ids(20), SamplingParams(), observe=observe, grammar=Grammar(lark="no (grammar")
    )
    with anyio.fail_after(10):
        assert await begun.states.receive() is None
    with pytest.raises(InferenceError):
        await anext(begun)


@pytest.mark.parametrize(
    "observe",
    [
        Observe(start=0, stop=20, layers=()),
        Observe(start=0, stop=20, layers=(99,)),
        Observe(start=20, stop=20, layers=(1,)),
    ],
)
async def test_states_that_there_are_not_are_refused_at_once(engine, observe):
    with pytest.raises(InferenceError):
        engine.begin(token_ids(20), SamplingParams(), observe=observe)

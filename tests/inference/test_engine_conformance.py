"""What every Engine promises, asked of LocalEngine and of the remote ones, over servers of ours and over vLLM."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from agentkit.errors import ContextLengthError, GrammarError, InferenceError
from agentkit.inference.base import (
    Completion,
    Engine,
    Grammar,
    SamplingParams,
    StopReason,
    collect,
)
from agentkit.inference.grammar import json_schema_grammar
from tests.inference.calling import fresh_scope, token_ids
from tests.inference.engine_subjects import CONTEXT, OpenEngine, opening

SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["celsius", "fahrenheit"]}, "warm": {"type": "boolean"}},
    "required": ["unit", "warm"],
    "additionalProperties": False,
}


@pytest.fixture(params=["local", "remote", "pool", pytest.param("vllm", marks=pytest.mark.vllm)])
async def open_engine(request, tiny_model, tiny_checkpoint) -> AsyncIterator[OpenEngine]:
    async with opening(request.param, tiny_model, tiny_checkpoint) as open_engine:
        yield open_engine


@pytest.fixture
async def engine(open_engine) -> Engine:
    engine: Engine = await open_engine()
    return engine


async def generated(engine: Engine, prompt: list[int], *, scope: str = "", **params) -> Completion:
    return await collect(engine.generate(prompt, SamplingParams(**params), scope=scope))


# Outputs


async def test_a_greedy_output_is_always_the_same_and_as_long_as_asked(engine):
    prompt = token_ids(20)
    first = await generated(engine, prompt, max_tokens=8)
    assert (len(first.ids), first.stop_reason) == (8, StopReason.MAX_TOKENS)
    assert (await generated(engine, prompt, max_tokens=8)).ids == first.ids
    assert (await generated(engine, [*prompt, *first.ids[:3]], max_tokens=5)).ids == first.ids[3:]


async def test_only_the_last_token_says_why_and_what_it_cost(engine):
    params = SamplingParams(max_tokens=4)
    tokens = [token async for token in engine.generate(token_ids(9), params, scope=fresh_scope())]
    assert [token.stop_reason for token in tokens] == [None, None, None, StopReason.MAX_TOKENS]
    assert [token.usage is None for token in tokens] == [True, True, True, False]
    usage = tokens[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.cached_tokens, usage.prefilled_tokens, usage.output_tokens) == (
        9,
        0,
        9,
        4,
    )
    assert min(usage.prefill_seconds, usage.decode_seconds) > 0


async def test_a_stop_id_ends_the_output_and_is_its_last_id(engine):
    expected = (await generated(engine, token_ids(10), max_tokens=12)).ids
    stop = expected[5]
    completion = await generated(engine, token_ids(10), max_tokens=12, stop_ids=frozenset({stop}))
    assert completion.ids == expected[: expected.index(stop) + 1]
    assert completion.stop_reason is StopReason.STOP_TOKEN


async def test_the_output_ends_where_the_context_is_full(engine):
    completion = await generated(engine, token_ids(CONTEXT - 5), max_tokens=100)
    assert (len(completion.ids), completion.stop_reason) == (5, StopReason.CONTEXT_FULL)


async def test_a_seed_repeats_a_draw_and_another_seed_differs(engine):
    async def draw(seed: int | None) -> tuple[int, ...]:
        return (await generated(engine, token_ids(8), temperature=2.0, max_tokens=16, seed=seed)).ids

    first = await draw(1)
    assert await draw(1) == first
    assert await draw(2) != first
    assert await draw(None) != await draw(None)


async def test_scores_are_log_probabilities_and_the_greedy_token_has_the_highest(engine):
    prompt = token_ids(30)
    greedy = (await generated(engine, prompt, max_tokens=1)).ids[0]
    others = [token_id for token_id in token_ids(200, start=3) if token_id != greedy]
    score = await engine.score(prompt, [others[0], greedy, *others[1:], others[0]], scope=fresh_scope())
    assert max(score.logprobs) == score.logprobs[1]
    assert score.logprobs[0] == score.logprobs[-1]
    assert 0 < math.fsum(map(math.exp, {*score.logprobs})) <= 1 + 1e-4
    assert score.usage.output_tokens == 0


# Grammars


@pytest.mark.parametrize("end_of_text", [True, False], ids=["end of text", "another stop id"])
@pytest.mark.parametrize("temperature", [0.0, 2.0])
async def test_a_grammar_shapes_the_output_and_ends_it_with_a_stop_id(engine, end_of_text, temperature):
    ends = engine.tokenizer.eos_ids
    stop = min(ends if end_of_text else set(engine.tokenizer.special_ids.values()) - ends)
    params = SamplingParams(temperature=temperature, seed=0, max_tokens=100, stop_ids=frozenset({stop}))
    completion = await collect(engine.generate(token_ids(10), params, grammar=json_schema_grammar(SCHEMA)))
    assert (completion.ids[-1], completion.stop_reason) == (stop, StopReason.STOP_TOKEN)
    value = json.loads(engine.tokenizer.decode(completion.ids[:-1], skip_special=False))
    assert value["unit"] in ("celsius", "fahrenheit")
    assert isinstance(value["warm"], bool)


@pytest.mark.parametrize(
    ("lark", "stop_ids"), [("start: nothing", {2}), ('start: "a"', set())], ids=["unknown rule", "no stop id"]
)
async def test_a_grammar_that_cannot_be_used_is_refused(engine, lark, stop_ids):
    params = SamplingParams(stop_ids=frozenset(stop_ids))
    with pytest.raises(GrammarError):
        await collect(engine.generate(token_ids(5), params, grammar=Grammar(lark=lark)))


# Arguments


@pytest.mark.parametrize(
    ("prompt", "candidates", "public_prefix"),
    [([], [1], 0), ([-1], [1], 0), ([10**7], [1], 0), ([5], [10**7], 0), ([5], [], 0), ([5], [1], 2)],
)
async def test_impossible_arguments_are_refused(engine, prompt, candidates, public_prefix):
    with pytest.raises(InferenceError):
        await engine.score(prompt, candidates, public_prefix=public_prefix)


async def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(engine):
    with pytest.raises(ContextLengthError) as raised:
        await generated(engine, token_ids(CONTEXT))
    assert (raised.value.prompt_tokens, raised.value.context_length) == (CONTEXT, CONTEXT)


# The cache


async def test_what_a_scope_computed_is_cached_for_it_and_for_no_other(engine):
    mine, other, prompt = fresh_scope(), fresh_scope(), token_ids(100)

    async def cached_tokens(scope: str) -> int:
        usage = (await generated(engine, prompt, scope=scope, max_tokens=1)).usage
        assert usage.cached_tokens + usage.prefilled_tokens == usage.prompt_tokens == 100
        return usage.cached_tokens

    assert await cached_tokens(mine) == 0
    assert await cached_tokens(other) == 0
    assert await cached_tokens(mine) >= 64


# Callers


async def test_outputs_side_by_side_are_what_each_is_alone(engine):
    prompts = [token_ids(10 + 7 * number, start=number) for number in range(4)]
    together: dict[int, Completion] = {}

    async def run(index: int) -> None:
        together[index] = await generated(engine, prompts[index], max_tokens=6)

    async with anyio.create_task_group() as group:
        for index in range(len(prompts)):
            group.start_soon(run, index)
    for index, prompt in enumerate(prompts):
        assert together[index].ids == (await generated(engine, prompt, max_tokens=6)).ids


async def test_an_output_may_be_given_up_at_any_time(engine):
    tokens = engine.generate(token_ids(10), SamplingParams(max_tokens=200))
    assert isinstance(tokens, AsyncGenerator)
    first = await anext(tokens)
    await tokens.aclose()
    with anyio.move_on_after(0.05):
        await generated(engine, token_ids(10), max_tokens=200)
    assert (await generated(engine, token_ids(10), max_tokens=1)).ids == (first.id,)


async def test_a_closed_engine_serves_nobody(engine):
    tokens = engine.generate(token_ids(5), SamplingParams(max_tokens=240))
    await anext(tokens)

    async def go_on() -> None:
        with pytest.raises(InferenceError, match="closed"):
            await collect(tokens)

    async with anyio.create_task_group() as group:
        group.start_soon(go_on)
        await anyio.lowlevel.checkpoint()
        await engine.close()
    await engine.close()
    with pytest.raises(InferenceError, match="closed"):
        await engine.score(token_ids(5), [1])

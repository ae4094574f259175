"""Several callers of one LocalEngine: cancelling, slow readers, long prefills, the event loop."""

from __future__ import annotations

import anyio
import pytest

from agentkit.inference.base import Completion, GeneratedToken, SamplingParams
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.config import EngineConfig
from agentkit.inference.engine import LocalEngine
from tests.inference.calling import assert_nothing_in_use, generate_all, greedy_ids, token_ids, wait_for
from tests.inference.tiny import TINY_CONTEXT


@pytest.mark.parametrize("taken", [1, 2, 7])
async def test_closing_the_iterator_stops_it_and_keeps_what_was_computed(engine, scope, taken):
    prompt = token_ids(50)
    tokens = engine.generate(prompt, SamplingParams(max_tokens=4000), scope=scope)
    ids = [(await anext(tokens)).id for _ in range(taken)]
    await tokens.aclose()
    await assert_nothing_in_use(engine)
    again = await generate_all(engine, [*prompt, *ids], scope, max_tokens=1)
    assert again.usage.cached_tokens == len(prompt) + taken - 1


async def test_cancelling_a_task_in_its_prefill_keeps_the_chunks_that_were_done(open_engine):
    engine = open_engine(prefill_chunk=1)
    prompt = token_ids(TINY_CONTEXT - 10)
    async with anyio.create_task_group() as group:
        group.start_soon(generate_all, engine, prompt)
        await wait_for(engine, lambda stats: stats.active_bytes > 0)
        group.cancel_scope.cancel()
    await assert_nothing_in_use(engine)
    cached = (await engine.stats()).cached_tokens
    assert 0 < cached < len(prompt) - 1
    usage = (await engine.score(prompt[: cached + 5], [1])).usage
    assert usage.cached_tokens == cached


async def test_a_timeout_in_a_score_leaves_the_engine_usable(open_engine, tiny_model):
    engine = open_engine(prefill_chunk=1)
    with anyio.move_on_after(0.02) as timeout:
        await engine.score(token_ids(TINY_CONTEXT - 10), [1])
    assert timeout.cancelled_caught
    await assert_nothing_in_use(engine)
    completion = await generate_all(engine, token_ids(5), max_tokens=5)
    assert list(completion.ids) == greedy_ids(tiny_model, token_ids(5), 5)


async def test_an_iterator_that_never_started_asks_for_nothing(engine):
    tokens = engine.generate(token_ids(5), SamplingParams())
    await tokens.aclose()
    await assert_nothing_in_use(engine)


def test_a_loop_that_ends_in_the_middle_of_a_generation_leaves_the_engine_usable(engine, scope):
    async def abandon() -> GeneratedToken:
        return await anext(engine.generate(token_ids(5), SamplingParams(max_tokens=4000), scope=scope))

    async def check() -> None:
        await wait_for(engine, lambda stats: stats.active_requests == 0)
        await assert_nothing_in_use(engine)

    anyio.run(abandon)
    anyio.run(check)


async def test_every_page_is_in_use_or_cached_or_free(open_engine):
    engine = open_engine()
    everything = (await engine.stats()).free_bytes
    for length in (10, 200, 30):
        await generate_all(engine, token_ids(length, start=length), max_tokens=3)
        tokens = engine.generate(token_ids(length), SamplingParams(max_tokens=1000))
        await anext(tokens)
        stats = await engine.stats()
        assert stats.active_bytes > 0
        await tokens.aclose()
    stats = await engine.stats()
    assert stats.active_bytes == 0
    assert stats.free_bytes + stats.cached_bytes == everything > stats.free_bytes


# Callers side by side


async def test_a_long_prefill_does_not_hold_up_a_decode(open_engine):
    engine = open_engine(prefill_chunk=8)
    ended = []

    async def run(name, prompt, max_tokens):
        await generate_all(engine, prompt, name, max_tokens=max_tokens)
        ended.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(run, "long prefill", token_ids(TINY_CONTEXT - 10), 1)
        group.start_soon(run, "decode", token_ids(5), 20)
    assert ended == ["decode", "long prefill"]


@pytest.mark.model
async def test_sessions_of_the_embedded_model_side_by_side_say_what_each_says_alone():
    engine = await LocalEngine.load(EMBEDDED_MODEL)
    system = engine.tokenizer.encode("You are a helpful assistant who answers in one sentence. " * 8)
    prompts = [
        [*system, *engine.tokenizer.encode(question)]
        for question in ("What is rain?", "Name three colours:", "def add(a, b):", "Once upon a time")
    ]
    together: dict[int, Completion] = {}

    async def run(index: int) -> None:
        together[index] = await generate_all(engine, prompts[index], "together", max_tokens=12)

    async with anyio.create_task_group() as group:
        for index in range(len(prompts)):
            group.start_soon(run, index)
    for index, prompt in enumerate(prompts):
        alone = await generate_all(engine, prompt, f"alone {index}", max_tokens=12)
        assert together[index].ids == alone.ids
    assert sorted(completion.usage.cached_tokens >= 64 for completion in together.values())[1:] == [True] * 3
    await engine.close()


async def test_a_slow_consumer_delays_only_itself(engine, scope):
    slow = engine.generate(token_ids(5), SamplingParams(max_tokens=50), scope=scope)
    first = await anext(slow)
    await generate_all(engine, token_ids(9), scope, max_tokens=60)  # nobody reads `slow` meanwhile
    await wait_for(engine, lambda stats: stats.active_requests == 0)
    rest = [token async for token in slow]
    assert len([first, *rest]) == 50


async def test_the_event_loop_runs_on_during_load_and_prefill(tiny_checkpoint):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await anyio.sleep(0.001)
            ticks += 1

    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        engine = await LocalEngine.load(str(tiny_checkpoint), EngineConfig(prefill_chunk=4))
        before = ticks
        usage = (await engine.score(token_ids(TINY_CONTEXT - 10), [1])).usage
        assert ticks - before >= min(20, 50 * usage.prefill_seconds)
        group.cancel_scope.cancel()
    with anyio.CancelScope(shield=True):
        await engine.close()

"""Hidden states for probes: those of transformers, whatever is cached and whoever else runs."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from agentkit.errors import ContextLengthError, InferenceError
from agentkit.inference.base import Priority
from agentkit.inference.states_request import EarlyStatesRequest, HiddenStatesRequest
from tests.inference.calling import generate_all, token_ids
from tests.inference.scheduling import Inbox, drain, generation, new_scheduler

IDS = token_ids(50)
LAYERS = (0, 1)


@pytest.fixture(scope="module")
def expected(tiny_checkpoint) -> np.ndarray:
    """What transformers says of the embedding and the first layer: (ids, layers, hidden_size)."""
    oracle = LlamaForCausalLM.from_pretrained(tiny_checkpoint, local_files_only=True).eval()
    with torch.inference_mode():
        states = oracle(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    return np.stack([states[layer][0].numpy() for layer in LAYERS], axis=1)


async def test_they_are_those_of_transformers_in_any_chunks(engine, scope, expected):
    states = await engine.hidden_states(IDS, LAYERS, scope=scope)
    assert states.dtype == np.float32
    np.testing.assert_allclose(states, expected, atol=1e-4)


async def test_layers_come_in_the_order_asked_for(engine, scope, expected):
    states = await engine.hidden_states(IDS, [1, 0, 1], scope=scope)
    np.testing.assert_allclose(states, expected[:, [1, 0, 1]], atol=1e-4)


async def test_the_output_of_the_last_layer_gives_the_logits(engine, tiny_model, tiny_checkpoint, scope):
    oracle = LlamaForCausalLM.from_pretrained(tiny_checkpoint, local_files_only=True).eval()
    states = await engine.hidden_states(IDS, [tiny_model.config.num_layers], scope=scope)
    with torch.inference_mode():
        logits = oracle.lm_head(oracle.model.norm(torch.from_numpy(states[-1, 0])))
    expected = tiny_model.forward(torch.tensor(IDS), tiny_model.new_buffer())[0]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("start", [1, 33, 49])
async def test_what_is_cached_before_the_start_is_used(engine, scope, expected, start):
    await generate_all(engine, IDS, scope, max_tokens=1)
    states = await engine.hidden_states(IDS, LAYERS, start=start, scope=scope)
    np.testing.assert_allclose(states, expected[start:], atol=1e-4)


async def test_a_start_that_is_not_cached_is_reached_by_computing(engine, scope, expected):
    states = await engine.hidden_states(IDS, LAYERS, start=20, scope=scope)
    np.testing.assert_allclose(states, expected[20:], atol=1e-4)


async def test_the_generation_after_them_is_warm(engine, scope):
    await engine.hidden_states(IDS, LAYERS, scope=scope)
    usage = (await generate_all(engine, [*IDS, 5], scope, max_tokens=1)).usage
    assert usage.cached_tokens == len(IDS)


async def test_several_at_once_each_get_their_own(engine, scope, expected):
    answers = {}

    async def ask(start):
        answers[start] = await engine.hidden_states(IDS, LAYERS, start=start, scope=scope)

    async with anyio.create_task_group() as group:
        for start in range(0, 50, 10):
            group.start_soon(ask, start)
        group.start_soon(generate_all, engine, token_ids(30), scope)
    for start, states in answers.items():
        np.testing.assert_allclose(states, expected[start:], atol=1e-4)


@pytest.mark.parametrize("steps_before", range(1, 5))
def test_they_are_the_same_after_a_preemption(tiny_model, expected, steps_before):
    scheduler = new_scheduler(tiny_model, num_pages=8, prefill_chunk=10)
    inbox = Inbox()
    probe = HiddenStatesRequest(IDS, LAYERS, start=5, priority=Priority.BACKGROUND, scope="", mailbox=inbox)
    scheduler.submit(probe)
    for _ in range(steps_before):
        scheduler.step()
    urgent = generation(token_ids(60, start=9), max_tokens=1)
    scheduler.submit(urgent)
    drain(scheduler)
    assert scheduler.stats().preemptions == 1
    (states,) = inbox.received
    np.testing.assert_allclose(states.numpy(), expected[5:], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": []}, "the prompt is empty"),
        ({"ids": [5, 999]}, "prompt id 999 is out of range"),
        ({"layers": []}, r"layers must name some of 0 to 2, got \[\]"),
        ({"layers": [0, 3]}, r"layers must name some of 0 to 2, got \[0, 3\]"),
        ({"layers": [-1]}, r"layers must name some of 0 to 2, got \[-1\]"),
        ({"start": 50}, "start must be at least 0 and below 50, got 50"),
        ({"start": -1}, "start must be at least 0 and below 50, got -1"),
    ],
)
async def test_what_cannot_be_answered_is_refused(engine, arguments, message):
    with pytest.raises(InferenceError, match=message):
        await engine.hidden_states(**({"ids": IDS, "layers": LAYERS} | arguments))


async def test_ids_beyond_the_context_are_refused(open_engine):
    with pytest.raises(ContextLengthError):
        await open_engine(context_length=20).hidden_states(IDS, LAYERS)


@pytest.mark.parametrize("layers", [(0,), (1,), (0, 1), (2, 0)])
async def test_early_states_are_the_hidden_states(engine, scope, layers):
    early = await engine.early_states(IDS, layers)
    np.testing.assert_allclose(early, await engine.hidden_states(IDS, layers, scope=scope), atol=1e-4)


async def test_early_states_leave_nothing_in_the_cache(open_engine):
    engine = open_engine()
    await engine.early_states(IDS, LAYERS)
    stats = await engine.stats()
    assert (stats.cached_tokens, stats.active_bytes) == (0, 0)
    usage = (await generate_all(engine, IDS, "", max_tokens=1)).usage
    assert usage.cached_tokens == 0


async def test_early_states_beside_others_leave_them_their_own(engine, scope, expected):
    alone = await generate_all(engine, IDS, scope, max_tokens=4)
    answers = []

    async def ask():
        answers.append(await engine.early_states(IDS, LAYERS))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
        again = await generate_all(engine, IDS, f"{scope} again", max_tokens=4)
        deep = await engine.hidden_states(IDS, LAYERS, scope=f"{scope} deep")
    assert again.ids == alone.ids
    for states in [*answers, deep]:
        np.testing.assert_allclose(states, expected, atol=1e-4)


@pytest.mark.parametrize("steps_before", range(1, 5))
def test_early_states_are_the_same_after_a_preemption(tiny_model, expected, steps_before):
    scheduler = new_scheduler(tiny_model, num_pages=8, prefill_chunk=10)
    inbox = Inbox()
    scheduler.submit(EarlyStatesRequest(IDS, LAYERS, priority=Priority.BACKGROUND, mailbox=inbox))
    for _ in range(steps_before):
        scheduler.step()
    scheduler.submit(generation(token_ids(60, start=9), max_tokens=1))
    drain(scheduler)
    assert scheduler.stats().preemptions == 1
    (states,) = inbox.received
    np.testing.assert_allclose(states.numpy(), expected, atol=1e-4)

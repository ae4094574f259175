"""An engine whose decode steps are compiled: the same promises hold as where torch runs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
import torch

from agentkit.inference.base import SamplingParams, collect
from agentkit.inference.catalog import EMBEDDED_MODEL, resolve
from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.config import EngineConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.grammar import json_schema_grammar
from agentkit.inference.model import LlamaModel
from agentkit.inference.tokenizer import load_tokenizer
from tests.inference.calling import generate_all, greedy_ids, token_ids
from tests.inference.tiny import TINY_CONTEXT, build_tiny_checkpoint

PROMPTS = [token_ids(17 + 11 * number, start=number) for number in range(6)]
QUESTIONS = (
    "Say this twice: the red kite, the grey heron, the green finch. The red kite, the grey heron, the",
    "Write a short story about a lighthouse keeper who finds a letter.",
    "Oslo?",
    "List the planets from the sun outwards. Mercury, Venus,",
)
SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["celsius", "fahrenheit"]}, "sunny": {"type": "boolean"}},
    "required": ["unit", "sunny"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    return build_tiny_checkpoint(folder, context_length=TINY_CONTEXT, head_dim=32)


@pytest.fixture(scope="module")
def model(checkpoint) -> LlamaModel:
    loaded = load_checkpoint(checkpoint)
    model = LlamaModel(loaded.config, loaded.tensors)
    assert model.compiled
    return model


@pytest.fixture(scope="module")
def alone(model) -> list[tuple[int, ...]]:
    """What torch says to each prompt: more rows than a compiled step has, without a cache."""
    return [tuple(greedy_ids(model, prompt, 24)) for prompt in PROMPTS]


async def together(engine: LocalEngine, prompts: Sequence[list[int]] = PROMPTS) -> list[tuple[int, ...]]:
    said: list[tuple[int, ...]] = [()] * len(prompts)

    async def run(index: int) -> None:
        completion = await generate_all(engine, prompts[index], f"scope {index}", max_tokens=24)
        said[index] = completion.ids

    async with anyio.create_task_group() as group:
        for index in range(len(prompts)):
            group.start_soon(run, index)
    return said


async def test_sessions_side_by_side_say_what_torch_says_to_each_alone(model, checkpoint, alone):
    engine = LocalEngine(model, load_tokenizer(checkpoint), EngineConfig(prefill_chunk=16))
    assert await together(engine) == alone
    await engine.close()


async def test_requests_that_lost_their_memory_go_on_with_the_same_output(model, checkpoint, alone):
    room = model.page_bytes(8) * 24  # for some of the requests, not for all
    config = EngineConfig(prefill_chunk=16, page_tokens=8, kv_cache_bytes=room)
    engine = LocalEngine(model, load_tokenizer(checkpoint), config)
    assert await together(engine) == alone
    assert (await engine.stats()).preemptions > 0
    await engine.close()


async def test_engines_may_share_a_model(model, checkpoint, alone):
    tokenizer = load_tokenizer(checkpoint)
    engines = [LocalEngine(model, tokenizer, EngineConfig(threads=threads)) for threads in (1, 2)]
    said: list[list[tuple[int, ...]]] = []

    async def run(engine: LocalEngine) -> None:
        said.append(await together(engine))

    async with anyio.create_task_group() as group:
        for engine in engines:
            group.start_soon(run, engine)
    assert said == [alone, alone]
    for engine in engines:
        await engine.close()


async def test_a_grammar_masks_what_a_compiled_step_says(model, checkpoint):
    engine = LocalEngine(model, load_tokenizer(checkpoint))
    said = engine.generate(
        PROMPTS[0],
        SamplingParams(max_tokens=60, stop_ids=frozenset({1})),
        grammar=json_schema_grammar(SCHEMA),
    )
    value = json.loads(engine.tokenizer.decode((await collect(said)).ids))
    assert value["unit"] in ("celsius", "fahrenheit")
    assert isinstance(value["sunny"], bool)
    await engine.close()


def test_forks_and_what_is_rolled_back_go_on_as_if_they_were_alone(model):
    ids = torch.tensor(token_ids(60))
    trunk = model.new_buffer(200)
    model.forward(ids[:37], trunk)
    fork = trunk.fork()
    model.forward(ids[37:45], fork)
    model.forward(ids[50:59], trunk)
    trunk.truncate(37)
    model.forward(ids[37:45], trunk)
    assert torch.equal(model.forward(ids[45:46], trunk), model.forward(ids[45:46], fork))
    expected = model.forward(ids[:46], model.new_buffer(64))
    trunk.truncate(45)
    torch.testing.assert_close(model.forward(ids[45:46], trunk), expected, rtol=0, atol=1e-4)


@pytest.mark.model
def test_the_embedded_model_says_token_for_token_what_torch_says():
    path = resolve(EMBEDDED_MODEL).path
    loaded = load_checkpoint(path)
    model = LlamaModel(loaded.config, loaded.tensors)
    assert model.compiled
    prompt = load_tokenizer(path).encode("Write a short story about a lighthouse keeper who finds a letter.")
    ids, kv = list(prompt), model.new_buffer(128)
    logits = model.forward(torch.tensor(ids), kv)
    for _ in range(48):
        ids.append(int(logits[-1].argmax()))
        logits = model.forward(torch.tensor(ids[-1:]), kv)
    in_torch = model.forward(torch.tensor(ids), model.new_buffer(128), last_only=False)
    assert in_torch[len(prompt) - 1 : -1].argmax(dim=-1).tolist() == ids[len(prompt) :]


@pytest.mark.model
@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
async def test_the_embedded_model_says_to_each_of_several_what_it_says_to_one_alone(weights):
    engine = await LocalEngine.load(EMBEDDED_MODEL, EngineConfig(weights=weights, threads=1, device="cpu"))
    prompts = [engine.tokenizer.encode(text) for text in QUESTIONS]

    async def one_by_one(max_tokens: int) -> list[tuple[int, ...]]:
        return [
            (await generate_all(engine, prompt, f"scope {index}", max_tokens=max_tokens)).ids
            for index, prompt in enumerate(prompts)
        ]

    await one_by_one(1)  # prompts are torch's: the same keys and values of theirs for all that follows
    alone = await one_by_one(24)
    side_by_side = await together(engine, prompts)
    stats = await engine.stats()
    await engine.close()
    assert side_by_side == alone
    assert stats.decoding == "compiled"
    assert stats.drafted_tokens > 0

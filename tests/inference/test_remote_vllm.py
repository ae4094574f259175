"""RemoteEngine over a real vLLM that serves the embedded model: the same tokens, the whole agent, what it can do."""

from __future__ import annotations

import anyio
import pytest

from agentkit.inference.base import SamplingParams, collect
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.engine import LocalEngine
from agentkit.inference.formats.prompt_format import PromptFormat
from agentkit.messages import Message
from tests.inference.engine_subjects import vllm_engine

pytestmark = [pytest.mark.vllm, pytest.mark.model]

QUESTIONS = [
    "What is rain?",
    "Name three colours.",
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain photosynthesis in one sentence.",
    "Add 17 and 25.",
    "Translate 'good morning' into Spanish.",
    "Who wrote Hamlet?",
    "What does the word 'ephemeral' mean?",
    "List the days of the week.",
    "Write a Python function that reverses a string.",
    "Why is the sky blue?",
    "How do I bake bread?",
    "Give me a fact about octopuses.",
    "What is 2 to the power of 10?",
    "Describe a sunset.",
    "What is the difference between a virus and a bacterium?",
    "Suggest a name for a black cat.",
    "How far is the moon?",
    "Write one line of JSON with a name and an age.",
]


async def test_greedy_outputs_of_both_engines_are_equal_token_for_token():
    local, remote = await LocalEngine.load(EMBEDDED_MODEL), vllm_engine()
    await remote.start()
    style = PromptFormat().build(local.tokenizer, date=None)
    different = []
    try:
        for question in QUESTIONS:
            prompt = style.render([Message.user(question)])
            params = SamplingParams(max_tokens=24, stop_ids=style.stop_ids)
            outputs = [(await collect(engine.generate(prompt, params))).ids for engine in (local, remote)]
            if outputs[0] != outputs[1]:
                different.append((question, outputs))
    finally:
        await local.close()
        await remote.close()
    assert different == []


async def test_scores_of_both_engines_agree():
    local, remote = await LocalEngine.load(EMBEDDED_MODEL), vllm_engine()
    prompt = local.tokenizer.encode("Is the sky blue? Answer yes or no. Answer:")
    candidates = [local.tokenizer.encode(word)[0] for word in (" Yes", " No", " yes", " no", " zebra")]
    try:
        scores = [await engine.score(prompt, candidates) for engine in (local, remote)]
    finally:
        await local.close()
        await remote.close()
    assert scores[1].logprobs == pytest.approx(scores[0].logprobs, abs=2e-3)


async def test_a_server_started_as_the_documentation_says_lacks_nothing():
    remote = vllm_engine()
    try:
        assert (await remote.start()).missing == ()
    finally:
        await remote.close()


def test_one_engine_serves_several_event_loops():
    remote = vllm_engine()

    async def first_token() -> int:
        return (await collect(remote.generate([504, 3575], SamplingParams(max_tokens=1)))).ids[0]

    assert anyio.run(first_token) == anyio.run(first_token)
    anyio.run(remote.close)

"""Grammars, wrong arguments, damaged models, closing: what LocalEngine refuses, and what it leaves behind."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import threading
import weakref

import anyio
import pytest

from agentkit.errors import (
    ConfigurationError,
    ContextLengthError,
    GrammarError,
    InferenceError,
    ModelLoadError,
)
from agentkit.inference.base import Grammar, SamplingParams, StopReason, collect
from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.config import EngineConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.grammar import json_schema_grammar
from agentkit.inference.model import LlamaModel
from agentkit.inference.tokenizer import load_tokenizer
from tests.inference.calling import assert_nothing_in_use, generate_all, token_ids
from tests.inference.tiny import TINY_CONTEXT

# Grammars

SCHEMA = {
    "type": "object",
    "properties": {"unit": {"enum": ["celsius", "fahrenheit"]}, "days": {"type": "integer", "maximum": 9}},
    "required": ["unit", "days"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("stop", ["<|end|>", "<|turn|>"], ids=["end of text", "another stop id"])
@pytest.mark.parametrize("temperature", [0.0, 3.0])
async def test_a_grammar_shapes_the_output_and_ends_it_with_a_stop_id(engine, scope, stop, temperature):
    stop_id = engine.tokenizer.special_ids[stop]
    params = SamplingParams(temperature=temperature, seed=0, max_tokens=300, stop_ids=frozenset({stop_id}))
    completion = await collect(
        engine.generate(token_ids(10), params, grammar=json_schema_grammar(SCHEMA), scope=scope)
    )
    assert completion.stop_reason is StopReason.STOP_TOKEN
    assert completion.ids[-1] == stop_id
    value = json.loads(engine.tokenizer.decode(completion.ids[:-1], skip_special=False))
    assert value["unit"] in ("celsius", "fahrenheit")
    assert value["days"] <= 9


async def test_a_stop_id_is_allowed_wherever_the_grammar_may_end(engine):
    params = SamplingParams(temperature=10.0, max_tokens=200, stop_ids=frozenset({2}))
    lengths = set()
    for _ in range(10):
        completion = await collect(
            engine.generate(token_ids(4), params, grammar=Grammar(lark="start: /[a-z ]{1,400}/"))
        )
        lengths.add(len(completion.ids))
        assert completion.ids[0] != 2
    assert len(lengths) > 1


@pytest.mark.parametrize(
    ("lark", "stop_ids", "message"),
    [
        ("start: nowhere", {2}, "does not compile"),
        ('start: "a"', set(), "needs stop ids"),
    ],
)
async def test_a_grammar_that_cannot_match_fails_its_request_only(engine, scope, lark, stop_ids, message):
    params = SamplingParams(stop_ids=frozenset(stop_ids))
    with pytest.raises(GrammarError, match=message):
        await collect(engine.generate(token_ids(5), params, grammar=Grammar(lark=lark), scope=scope))
    await assert_nothing_in_use(engine)
    assert (await generate_all(engine, token_ids(5), scope, max_tokens=2)).usage.output_tokens == 2


# Errors


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the prompt is empty"),
        ([5, -1], "prompt id -1 is out of range; the vocabulary has 320 tokens"),
        ([320], "prompt id 320 is out of range"),
    ],
)
async def test_a_prompt_that_is_no_prompt_is_refused(engine, prompt, message):
    with pytest.raises(InferenceError, match=message):
        await generate_all(engine, prompt)
    with pytest.raises(InferenceError, match=message):
        await engine.score(prompt, [1])


async def test_candidate_and_stop_ids_out_of_range_are_refused(engine):
    with pytest.raises(InferenceError, match="candidate id 999 is out of range"):
        await engine.score([5], [1, 999])
    with pytest.raises(InferenceError, match="at least one candidate"):
        await engine.score([5], [])
    with pytest.raises(InferenceError, match="stop id 999 is out of range"):
        await generate_all(engine, [5], stop_ids=frozenset({999}))


async def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(open_engine):
    engine = open_engine(context_length=20)
    with pytest.raises(ContextLengthError, match="context is 20 tokens, prompt has 20"):
        await generate_all(engine, token_ids(20))
    with pytest.raises(ContextLengthError, match="context is 20 tokens, prompt has 35"):
        await engine.score(token_ids(35), [1])
    assert len((await generate_all(engine, token_ids(19))).ids) == 1


async def test_a_prompt_larger_than_the_whole_cache_is_refused(open_engine):
    engine = open_engine(kv_cache_bytes=100_000)  # 12 pages of 32 tokens
    assert engine.context_length == 384
    with pytest.raises(InferenceError, match="cache holds 384 tokens, the prompt has 384 and needs one more"):
        await generate_all(engine, token_ids(384))
    completion = await generate_all(engine, token_ids(380), max_tokens=100)
    assert (len(completion.ids), completion.stop_reason) == (4, StopReason.CONTEXT_FULL)


async def test_a_cache_without_a_page_or_beyond_the_memory_is_refused(open_engine):
    with pytest.raises(ConfigurationError, match="one page of 32 tokens takes 8192"):
        open_engine(kv_cache_bytes=8191)
    with pytest.raises(ConfigurationError, match="which cpu has no memory for"):
        open_engine(kv_cache_bytes=1 << 60)


async def test_damaged_weights_give_an_error_and_never_a_score(tiny_checkpoint):
    loaded = load_checkpoint(tiny_checkpoint)
    loaded.tensors["model.norm.weight"][:] = math.nan
    engine = LocalEngine(LlamaModel(loaded.config, loaded.tensors), load_tokenizer(tiny_checkpoint))
    with pytest.raises(InferenceError, match="not numbers"):
        await engine.score(token_ids(5), [1])
    with pytest.raises(InferenceError, match="no token can be drawn"):
        await generate_all(engine, token_ids(5))
    await engine.close()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EngineConfig(device="nowhere"), "device 'nowhere' cannot be used here"),
        (EngineConfig(context_length=9999), f"context_length is 9999, the model's is {TINY_CONTEXT}"),
    ],
)
async def test_a_setting_that_does_not_fit_is_refused(tiny_checkpoint, config, message):
    with pytest.raises(ConfigurationError, match=message):
        await LocalEngine.load(str(tiny_checkpoint), config)


async def test_loading_what_is_not_there_is_an_error_and_leaves_no_thread(tmp_path):
    before = threading.active_count()
    with pytest.raises((ModelLoadError, ConfigurationError)):
        await LocalEngine.load(str(tmp_path / "nothing"))
    with anyio.fail_after(10):
        while threading.active_count() > before:  # noqa: ASYNC110  # a thread tells nobody that it ended
            await anyio.sleep(0.01)


# Closing


async def test_closing_ends_calls_in_progress_and_refuses_new_ones(tiny_checkpoint):
    engine = await LocalEngine.load(str(tiny_checkpoint))
    tokens = engine.generate(token_ids(5), SamplingParams(max_tokens=4000))
    await anext(tokens)
    await engine.close()
    with pytest.raises(InferenceError, match="closed before the request was done"):
        await collect(tokens)
    await engine.close()
    calls = (generate_all(engine, [5]), engine.score([5], [1]), engine.stats(), engine.forget([5], keep=0))
    for refused in calls:
        with pytest.raises(InferenceError, match="the engine is closed"):
            await refused


async def test_closing_frees_the_model_and_ends_the_thread(tiny_checkpoint):
    before = set(threading.enumerate())
    loaded = load_checkpoint(tiny_checkpoint)
    model = LlamaModel(loaded.config, loaded.tensors)
    engine = LocalEngine(model, load_tokenizer(tiny_checkpoint))
    await generate_all(engine, token_ids(5), max_tokens=2)
    freed = weakref.ref(model)
    del model
    await engine.close()
    gc.collect()
    assert freed() is None
    assert "agentkit-engine" not in {thread.name for thread in set(threading.enumerate()) - before}


FORGETFUL = """
import anyio, sys
from agentkit.inference.base import SamplingParams
from agentkit.inference.engine import LocalEngine

async def main():
    engine = await LocalEngine.load(sys.argv[1])
    async for token in engine.generate([5, 6, 7], SamplingParams(max_tokens=4000)):
        return engine

engine = anyio.run(main)
"""


def test_an_engine_that_nobody_closes_lets_the_interpreter_exit_quietly(tiny_checkpoint):
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", FORGETFUL, str(tiny_checkpoint)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (process.returncode, process.stderr) == (0, "")


FORKED = """
import anyio, os, sys
from agentkit.errors import InferenceError
from agentkit.inference.base import SamplingParams, collect
from agentkit.inference.engine import LocalEngine

async def main(engine):
    try:
        await collect(engine.generate([5, 6, 7], SamplingParams(max_tokens=2)))
    except InferenceError as error:
        print(error)

engine = anyio.run(LocalEngine.load, sys.argv[1])
if os.fork() == 0:
    anyio.run(main, engine)
    sys.exit()
os.wait()
anyio.run(engine.close)
"""


def test_a_fork_is_told_that_the_engine_is_not_in_it(tiny_checkpoint):
    command = [sys.executable, "-c", FORKED, str(tiny_checkpoint)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert process.stdout == "a fork of a process has none of its engines' threads; open an engine here\n"


async def test_an_end_that_the_tokenizer_alone_has_does_not_disturb_a_grammar(tiny_checkpoint, tiny_model):
    known = load_tokenizer(tiny_checkpoint)
    definition = json.loads((tiny_checkpoint / "tokenizer.json").read_text())
    added = {**definition["added_tokens"][0], "id": known.vocab_size, "content": "<|pad|>"}
    definition["added_tokens"].append(added)
    folder = tiny_checkpoint.parent / "tiny with one token more"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|pad|>"}))

    engine = LocalEngine(tiny_model, load_tokenizer(folder))
    try:
        params = SamplingParams(max_tokens=8, stop_ids=known.eos_ids)
        completion = await collect(
            engine.generate(token_ids(4), params, grammar=Grammar(lark='start: "abc"'))
        )
        assert known.decode(completion.ids) == "abc"
    finally:
        await engine.close()

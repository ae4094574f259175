"""How weights, keys and values are kept: what a device can use, what engines say of it, whose KV fits whom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import torch

from agentkit.errors import ConfigurationError, KVFileError
from agentkit.inference.base import SamplingParams, collect
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.config import EngineConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.loading import KeptTypes, kept_types
from agentkit.inference.quantized import GROUP
from tests.inference.calling import generate_all, token_ids
from tests.inference.tiny import TINY_CONTEXT, build_tiny_checkpoint

CPU, CUDA, METAL = torch.device("cpu"), torch.device("cuda", 1), torch.device("mps")
NUMBERS = 2 * (3 * 64 * 32 + 2 * 128 * 32 + 2 * 64 * 32) + 2 * 320 * 32
"""Of all matrices of the tiny model with heads of 32: two layers, embedding and head."""

OpenEngine = Callable[..., Awaitable[LocalEngine]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole groups")
    return build_tiny_checkpoint(folder, context_length=TINY_CONTEXT, head_dim=32)


@pytest.fixture
async def load(checkpoint) -> AsyncIterator[OpenEngine]:
    """Return a function that loads the checkpoint in an engine of its own, closed after the test."""
    engines: list[LocalEngine] = []

    async def load(**config) -> LocalEngine:
        engines.append(await LocalEngine.load(str(checkpoint), EngineConfig(**config)))
        return engines[-1]

    yield load
    for engine in engines:
        await engine.close()


def test_a_cpu_computes_in_float32_whatever_is_kept():
    exact = KeptTypes(weights="float32", hidden=torch.float32, kv=torch.float32)
    small = KeptTypes(weights="int8", hidden=torch.float32, kv=torch.bfloat16)
    assert kept_types(EngineConfig(), CPU) == exact
    assert kept_types(EngineConfig(weights="int8", kv_dtype="bfloat16"), CPU) == small


def test_a_gpu_computes_in_the_type_that_it_keeps_or_in_bfloat16():
    bfloat16 = KeptTypes(weights="bfloat16", hidden=torch.bfloat16, kv=torch.bfloat16)
    float32 = KeptTypes(weights="float32", hidden=torch.float32, kv=torch.float32)
    assert kept_types(EngineConfig(), CUDA) == bfloat16
    assert kept_types(EngineConfig(weights="bfloat16", kv_dtype="bfloat16"), CUDA) == bfloat16
    assert kept_types(EngineConfig(weights="float32"), CUDA) == float32
    for weights in ("int8", "int4"):
        small = KeptTypes(weights=weights, hidden=torch.bfloat16, kv=torch.bfloat16)
        assert kept_types(EngineConfig(weights=weights), CUDA) == small
        assert kept_types(EngineConfig(weights=weights, kv_dtype="bfloat16"), CUDA) == small


@pytest.mark.parametrize(
    ("config", "device", "message"),
    [
        (EngineConfig(weights="int4"), CPU, "weights='int4' is for a GPU, the device is 'cpu'; use 'int8'"),
        (EngineConfig(weights="int8"), METAL, "weights='int8' has no kernels for the device mps"),
        (EngineConfig(weights="int4"), METAL, "weights='int4' has no kernels for the device mps"),
        (EngineConfig(kv_dtype="float32"), CUDA, "kv_dtype is 'float32' and the weights are 'bfloat16'"),
        (EngineConfig(weights="float32", kv_dtype="bfloat16"), CUDA, "on cuda:1 it must be 'float32'"),
        (EngineConfig(weights="int4", kv_dtype="float32"), CUDA, "on cuda:1 it must be 'bfloat16'"),
    ],
)
def test_what_a_device_has_no_kernels_for_is_refused(config, device, message):
    with pytest.raises(ConfigurationError, match=message):
        kept_types(config, device)


async def test_an_engine_on_a_cpu_refuses_int4(tiny_checkpoint):
    with pytest.raises(ConfigurationError, match="weights='int4' is for a GPU"):
        await LocalEngine.load(str(tiny_checkpoint), EngineConfig(weights="int4", device="cpu"))


@pytest.mark.parametrize(
    ("weights", "kv_dtype", "weight_bytes", "number_bytes"),
    [
        ("float32", None, 4 * NUMBERS, 4),
        ("bfloat16", "float32", 2 * NUMBERS, 4),
        ("int8", "float32", NUMBERS + 4 * NUMBERS // GROUP, 4),
        ("float32", "bfloat16", 4 * NUMBERS, 2),
    ],
)
async def test_an_engine_says_what_its_weights_and_tokens_take(
    load, weights, kv_dtype, weight_bytes, number_bytes
):
    engine = await load(weights=weights, kv_dtype=kv_dtype)
    stats = await engine.stats()
    assert (stats.weight_bytes, stats.decoding) == (weight_bytes, "compiled")
    assert (
        stats.kv_token_bytes == 2 * 2 * 2 * 32 * number_bytes
    )  # keys and values of two layers and two heads
    assert len((await generate_all(engine, token_ids(20), max_tokens=20)).ids) == 20


async def test_sizes_that_are_no_whole_groups_are_decoded_by_torch_from_widened_weights(tiny_checkpoint):
    exact = await LocalEngine.load(str(tiny_checkpoint))
    small = await LocalEngine.load(str(tiny_checkpoint), EngineConfig(weights="int8"))
    for engine in (exact, small):
        assert (await engine.stats()).decoding == "torch"
    assert (await small.stats()).weight_bytes == (await exact.stats()).weight_bytes
    assert len((await generate_all(small, token_ids(20), max_tokens=5)).ids) == 5
    await exact.close()
    await small.close()


@pytest.mark.parametrize("other", [{"kv_dtype": "bfloat16"}, {"weights": "bfloat16"}, {"weights": "int8"}])
async def test_saved_keys_and_values_are_for_engines_that_keep_the_same_types(load, tmp_path, other):
    path, ids = tmp_path / "saved.kv", token_ids(40)
    exact, another, same = await load(), await load(**other), await load(weights="float32")
    await generate_all(exact, ids, max_tokens=1)
    assert await exact.save_kv(ids, path, scope="") == len(ids)
    with pytest.raises(KVFileError, match="another model, dtype or rotary positions"):
        await another.load_kv(path, ids, scope="")
    assert await same.load_kv(path, ids, scope="") == len(ids)


@pytest.mark.model
@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
async def test_the_embedded_model_in_fewer_bytes_still_knows_its_capital(weights):
    engine = await LocalEngine.load(EMBEDDED_MODEL, EngineConfig(weights=weights, kv_cache_bytes=1 << 26))
    prompt = engine.tokenizer.encode("The capital of France is")
    completion = await collect(engine.generate(prompt, SamplingParams(max_tokens=3)))
    assert "Paris" in engine.tokenizer.decode(completion.ids)
    await engine.close()

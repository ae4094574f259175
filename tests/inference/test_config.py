"""Configurations are read from both formats, and what we cannot run is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.errors import ConfigurationError, ModelLoadError
from agentkit.inference.config import (
    EngineConfig,
    FrequencyDivisors,
    LinearScaling,
    Llama3Scaling,
    ModelConfig,
)

LLAMA_3_1_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "vocab_size": 128256,
}
SMOLLM2_GGUF: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 30,
    "llama.context_length": 8192,
    "llama.embedding_length": 576,
    "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9,
    "llama.attention.head_count_kv": 3,
    "llama.rope.freq_base": 100000.0,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.vocab_size": 49152,
    "llama.rope.dimension_count": 64,
}


def test_llama_3_1_is_read() -> None:
    assert ModelConfig.from_hf(LLAMA_3_1_8B) == ModelConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        rope_scaling=Llama3Scaling(
            factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8192
        ),
        context_length=131072,
        tie_embeddings=False,
    )


def test_rope_settings_of_transformers_5_mean_the_same() -> None:
    newer = {key: value for key, value in LLAMA_3_1_8B.items() if not key.startswith("rope_")}
    newer["rope_parameters"] = LLAMA_3_1_8B["rope_scaling"] | {"rope_theta": 500000.0}
    assert ModelConfig.from_hf(newer) == ModelConfig.from_hf(LLAMA_3_1_8B)


@pytest.mark.parametrize("key", ["rope_type", "type"])
def test_linear_scaling_is_read_by_either_key(key: str) -> None:
    config = ModelConfig.from_hf(LLAMA_3_1_8B | {"rope_scaling": {key: "linear", "factor": 4}})
    assert config.rope_scaling == LinearScaling(factor=4.0)


@pytest.mark.parametrize("settings", [None, {}, {"rope_type": "default", "rope_theta": 7.0}])
def test_no_scaling_is_none(settings: dict[str, Any] | None) -> None:
    assert ModelConfig.from_hf(LLAMA_3_1_8B | {"rope_scaling": settings}).rope_scaling is None


def test_old_configurations_have_defaults() -> None:
    optional = ("num_key_value_heads", "rope_theta", "rope_scaling", "tie_word_embeddings", "attention_bias")
    config = ModelConfig.from_hf({key: value for key, value in LLAMA_3_1_8B.items() if key not in optional})
    assert (config.num_kv_heads, config.rope_theta, config.rope_scaling) == (32, 10_000.0, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "architecture is MistralForCausalLM"),
        ({"architectures": None, "model_type": "gpt2"}, "model_type is 'gpt2'"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope type is 'yarn'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "no 'factor'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor must be above 0, got 0.0"),
        ({"rope_scaling": "llama3"}, "rope_scaling must be an object"),
        ({"rope_scaling": LLAMA_3_1_8B["rope_scaling"] | {"low_freq_factor": 4}}, "low_freq_factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5"),
        ({"vocab_size": None}, "no 'vocab_size'"),
        ({"hidden_size": "4096"}, "'hidden_size' must be a whole number, got '4096'"),
        ({"rms_norm_eps": "small"}, "'rms_norm_eps' must be a finite number, got 'small'"),
        ({"num_hidden_layers": 0}, "num_layers must be above 0, got 0"),
        ({"num_attention_heads": 0}, "num_heads must be above 0, got 0"),
        ({"num_key_value_heads": 5}, "multiple of num_kv_heads, got 32 and 5"),
        ({"head_dim": 127}, "head_dim must be even for rotary positions, got 127"),
        ({"rope_theta": float("nan")}, "'rope_theta' must be a finite number, got nan"),
    ],
)
def test_what_we_cannot_run_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        ModelConfig.from_hf(LLAMA_3_1_8B | change)


def test_gguf_metadata_is_read() -> None:
    assert ModelConfig.from_gguf(SMOLLM2_GGUF, tie_embeddings=True) == ModelConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        rms_norm_eps=1e-5,
        rope_theta=100000.0,
        rope_scaling=None,
        context_length=8192,
        tie_embeddings=True,
    )


def test_gguf_scaling_comes_from_its_metadata_or_its_divisors() -> None:
    linear = SMOLLM2_GGUF | {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    divisors = (1.0,) * 32
    assert ModelConfig.from_gguf(linear, tie_embeddings=True).rope_scaling == LinearScaling(factor=2.0)
    assert ModelConfig.from_gguf(
        SMOLLM2_GGUF, tie_embeddings=True, divisors=divisors
    ).rope_scaling == FrequencyDivisors(divisors=divisors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": "qwen2"}, "architecture is 'qwen2'"),
        ({"split.count": 3}, "split over 3 GGUF files"),
        ({"llama.block_count": None}, "no 'llama.block_count'"),
        ({"llama.attention.head_count_kv": [3, 3]}, "must be a whole number"),
        ({"llama.rope.dimension_count": 32}, "'llama.rope.dimension_count' is 32"),
        ({"llama.rope.scaling.type": "yarn"}, "rope scaling is 'yarn'"),
    ],
)
def test_gguf_files_that_we_cannot_run_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        ModelConfig.from_gguf(SMOLLM2_GGUF | change, tie_embeddings=True)


def test_the_wrong_number_of_divisors_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="needs 32 frequency divisors, got 3"):
        ModelConfig.from_gguf(SMOLLM2_GGUF, tie_embeddings=True, divisors=(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_cache_bytes": 0}, "kv_cache_bytes must be at least 1, got 0"),
        ({"page_tokens": 0}, "page_tokens must be at least 1, got 0"),
        ({"prefill_chunk": 0}, "prefill_chunk must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"threads": 2.5}, "threads must be a whole number, got 2.5"),
        ({"threads": 10**6}, "threads must be at most 1024, got 1000000"),
        ({"host_kv_bytes": -1}, "host_kv_bytes must be at least 0, got -1"),
        ({"context_length": 1}, "context_length must be at least 2, got 1"),
        ({"weights": "int2"}, "weights must be one of float32, bfloat16, int8, int4, got 'int2'"),
        ({"kv_dtype": "int8"}, "kv_dtype must be one of float32, bfloat16, got 'int8'"),
        ({"speculation": "on"}, "speculation must be one of prompt_lookup, off, got 'on'"),
        ({"speculation": None}, "speculation must be one of prompt_lookup, off, got None"),
    ],
)
def test_impossible_engine_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        EngineConfig(**change)


def test_empty_rope_parameters_do_not_hide_the_scaling() -> None:
    config = ModelConfig.from_hf({**LLAMA_3_1_8B, "rope_parameters": {}})
    assert config.rope_scaling == ModelConfig.from_hf(LLAMA_3_1_8B).rope_scaling

"""The same model in every file format has the logits that transformers gives it.

Quantised weights are compared after rounding: transformers gets the values that the file holds, decoded one by
one as the format's specification says, so one tolerance serves all types.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType
from transformers import LlamaForCausalLM

from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.model import LlamaModel
from tests.inference.ggml_blocks import K_QUANTS
from tests.inference.random_llama import (
    LLAMA3_ROPE,
    random_llama,
    reference_logits,
    save_as_gguf,
    save_as_meta,
)

TOLERANCE = 1e-4
IDS = torch.arange(100) * 37 % 96

# What a `params.json` means by scaled positions in a model as narrow as ours.
META_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SHAPES: dict[str, dict[str, Any]] = {
    "grouped queries": {},
    "a key for each": {"num_key_value_heads": 4},
    "scaled rope": {"rope_parameters": META_ROPE},
    "tied": {"tie_word_embeddings": True},
}
# K-quants come in blocks of 256 values of one row.
WIDE = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}


def assert_same_logits(path: Path, oracle: LlamaForCausalLM) -> None:
    checkpoint = load_checkpoint(path)
    model = LlamaModel(checkpoint.config, checkpoint.tensors)
    logits = model.forward(IDS, model.new_buffer(), last_only=False)
    torch.testing.assert_close(logits, reference_logits(oracle, IDS), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_sharded_safetensors(shape: dict[str, Any], tmp_path: Path) -> None:
    oracle = random_llama(**shape)
    oracle.save_pretrained(tmp_path, max_shard_size="100KB")

    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same_logits(tmp_path, oracle)


@pytest.mark.parametrize("num_files", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_metas_files(shape: dict[str, Any], num_files: int, tmp_path: Path) -> None:
    oracle = random_llama(**shape)

    assert_same_logits(save_as_meta(oracle, tmp_path / "model", num_files=num_files), oracle)


def test_metas_files_with_the_embedding_split_by_columns(tmp_path: Path) -> None:
    oracle = random_llama()

    assert_same_logits(save_as_meta(oracle, tmp_path / "model", num_files=2, embedding_axis=1), oracle)


def test_the_scaling_of_metas_files_is_seen(tmp_path: Path) -> None:
    scaled = random_llama(rope_parameters=META_ROPE)
    plain = random_llama(rope_parameters={"rope_type": "default", "rope_theta": 500_000.0})
    folder = save_as_meta(plain, tmp_path / "plain")

    with pytest.raises(AssertionError, match="not close"):
        assert_same_logits(folder, scaled)


@pytest.mark.parametrize("shape", ["grouped queries", "tied"])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_gguf_files(kind: str, shape: str, tmp_path: Path) -> None:
    oracle = random_llama(**SHAPES[shape])
    save_as_gguf(oracle, tmp_path / "model.gguf", GGMLQuantizationType[kind])

    assert_same_logits(tmp_path / "model.gguf", oracle)


@pytest.mark.parametrize("kind", K_QUANTS, ids=lambda kind: kind.name)
def test_gguf_files_of_k_quants(kind: GGMLQuantizationType, tmp_path: Path) -> None:
    oracle = random_llama(**WIDE, rope_parameters=LLAMA3_ROPE)
    save_as_gguf(oracle, tmp_path / "model.gguf", kind)

    assert_same_logits(tmp_path / "model.gguf", oracle)


def test_a_model_keeps_its_fingerprint_in_metas_files(tmp_path: Path) -> None:
    oracle = random_llama(tie_word_embeddings=True, max_position_embeddings=2048)
    oracle.save_pretrained(tmp_path / "safetensors")
    save_as_meta(oracle, tmp_path / "meta", num_files=2)

    # Meta's files have the head of a tied model, transformers' have not.
    assert load_checkpoint(tmp_path / "meta").config.tie_embeddings
    assert (
        load_checkpoint(tmp_path / "meta").fingerprint
        == load_checkpoint(tmp_path / "safetensors").fingerprint
    )

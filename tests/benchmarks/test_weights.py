"""One set of weights in several formats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from transformers import LlamaForCausalLM

from agentkit.inference.checkpoint import load_checkpoint
from benchmarks.engines.weights import once, write_gguf, write_safetensors
from tests.inference.random_llama import random_llama, reference_logits, save_as_gguf


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.gguf"
    save_as_gguf(random_llama(), path, GGMLQuantizationType.Q4_0)
    return path


def test_the_fp32_file_has_the_values_and_the_metadata_of_its_source(source: Path, tmp_path: Path):
    path = tmp_path / "f32.gguf"
    write_gguf(source, path, GGMLQuantizationType.F32)

    assert {tensor.tensor_type for tensor in GGUFReader(path).tensors} == {GGMLQuantizationType.F32}
    assert load_checkpoint(path).fingerprint == load_checkpoint(source).fingerprint
    tokens = "tokenizer.ggml.tokens"
    assert GGUFReader(path).fields[tokens].contents() == GGUFReader(source).fields[tokens].contents()


def test_the_8_bit_file_has_nearly_the_same_values(source: Path, tmp_path: Path):
    path = tmp_path / "q8_0.gguf"
    write_gguf(source, path, GGMLQuantizationType.Q8_0)

    written = load_checkpoint(path).tensors
    for name, tensor in load_checkpoint(source).tensors.items():
        torch.testing.assert_close(written[name], tensor, atol=float(tensor.abs().max()) / 127, rtol=0)


def test_transformers_reads_the_folder(source: Path, tmp_path: Path):
    folder = tmp_path / "safetensors"
    write_safetensors(source, folder)

    expected = random_llama()
    save_as_gguf(expected, tmp_path / "rounds-the-weights.gguf", GGMLQuantizationType.Q4_0)
    ids = torch.arange(20)
    found = reference_logits(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), ids)
    torch.testing.assert_close(found, reference_logits(expected, ids))


def test_what_was_not_finished_is_not_there(tmp_path: Path):
    def fail(path: Path) -> None:
        path.mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        once(tmp_path / "weights", fail)
    assert not (tmp_path / "weights").exists()
    assert once(tmp_path / "weights", lambda path: path.mkdir()).is_dir()

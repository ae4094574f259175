"""Checkpoints are read whole from every format, and damaged or foreign ones are refused with what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from safetensors.torch import load_file, save_file

from agentkit.errors import ModelLoadError
from agentkit.inference.catalog import EMBEDDED_MODEL, resolve
from agentkit.inference.checkpoint import load_checkpoint
from tests.inference.random_llama import LLAMA3_ROPE, random_llama, save_as_gguf

QUERY = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An untied model in one file."""
    random_llama().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    random_llama().save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    return tmp_path / "sharded"


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    save_as_gguf(random_llama(), tmp_path / "model.gguf", GGMLQuantizationType.F32)
    return tmp_path / "model.gguf"


def test_a_folder_is_read_whole(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    expected = random_llama().state_dict()
    assert checkpoint.tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in checkpoint.tensors.items())
    assert checkpoint.config.num_layers == 3


def test_shards_are_one_model(folder: Path, sharded: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 1
    assert load_checkpoint(sharded).fingerprint == load_checkpoint(folder).fingerprint


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_fp32(tmp_path: Path, dtype: torch.dtype) -> None:
    model = random_llama().to(dtype)
    model.save_pretrained(tmp_path)
    tensors = load_checkpoint(tmp_path).tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert torch.equal(tensors[QUERY], model.state_dict()[QUERY].float())


def test_a_tied_model_has_no_head(tmp_path: Path) -> None:
    random_llama(tie_word_embeddings=True).save_pretrained(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.config.tie_embeddings
    assert "lm_head.weight" not in checkpoint.tensors


def test_a_stored_head_of_a_tied_model_counts_only_if_it_differs(tmp_path: Path) -> None:
    random_llama(tie_word_embeddings=True).save_pretrained(tmp_path)
    head = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]

    _change_tensors(tmp_path, {"lm_head.weight": head.clone()})
    assert load_checkpoint(tmp_path).config.tie_embeddings

    _change_tensors(tmp_path, {"lm_head.weight": head + 1})
    checkpoint = load_checkpoint(tmp_path)
    assert not checkpoint.config.tie_embeddings
    assert torch.equal(checkpoint.tensors["lm_head.weight"], head + 1)


def test_stored_rotary_frequencies_are_ignored(folder: Path) -> None:
    before = load_checkpoint(folder).fingerprint
    _change_tensors(folder, {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    assert load_checkpoint(folder).fingerprint == before


def test_the_fingerprint_follows_the_weights_not_the_place(
    folder: Path, gguf_file: Path, tmp_path: Path
) -> None:
    before = load_checkpoint(folder).fingerprint
    moved = folder.rename(tmp_path / "moved")
    assert load_checkpoint(moved).fingerprint == before

    query = load_file(moved / "model.safetensors")[QUERY]
    query[7, 7] += 1e-3
    _change_tensors(moved, {QUERY: query})
    assert load_checkpoint(moved).fingerprint != before


def test_the_fingerprint_follows_the_configuration(folder: Path) -> None:
    before = load_checkpoint(folder).fingerprint
    _change_config(folder, {"rope_parameters": LLAMA3_ROPE})
    assert load_checkpoint(folder).fingerprint != before


def test_a_gguf_file_gives_the_tensors_of_the_folder(folder: Path, gguf_file: Path) -> None:
    expected = load_checkpoint(folder).tensors
    tensors = load_checkpoint(gguf_file).tensors
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: _change_tensors(folder, {QUERY: None}), rf"missing tensors: 1 \({QUERY}\)"),
        (
            lambda folder: _change_tensors(folder, {"extra": torch.ones(2)}),
            r"unexpected tensors: 1 \(extra\)",
        ),
        (
            lambda folder: _change_tensors(folder, {QUERY: torch.ones(64, 32)}),
            rf"wrongly shaped tensors: 1 \({QUERY} is \(64, 32\), should be \(64, 64\)\)",
        ),
        (
            lambda folder: _change_config(folder, {"num_hidden_layers": 5}),
            r"missing tensors: 18 \(model.layers.3.input_layernorm.weight, .*, \.\.\.\)",
        ),
        (lambda folder: _change_tensors(folder, {QUERY: torch.ones(64, 64).int()}), "torch.int32"),
        (
            lambda folder: _truncate(folder / "model.safetensors"),
            r"truncated or damaged \(\d+ bytes, .* says",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x01"), r"damaged \(1 bytes\)"),
        (lambda folder: (folder / "model.safetensors").unlink(), "neither model.safetensors nor"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: _truncate(folder / "config.json"), r"config.json is not valid JSON \(\d+ bytes\)"),
        (lambda folder: (folder / "config.json").write_text("[]"), "must hold a JSON object, got list"),
        (
            lambda folder: _change_config(folder, {"architectures": ["Qwen2ForCausalLM"]}),
            "config.json: architecture is Qwen2ForCausalLM",
        ),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(ModelLoadError, match=message) as caught:
        load_checkpoint(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: next(folder.glob("model-00002*")).unlink(), "lacks 1 of its .* model-00002"),
        (lambda folder: _index(folder).write_text("{}"), "no weight_map"),
        (lambda folder: _index(folder).write_text('{"weight_map": {"a": "../b"}}'), "outside its folder"),
        (lambda folder: _keep_first_shard(_index(folder)), "missing tensors"),
    ],
)
def test_a_damaged_index_is_refused(sharded: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(sharded)
    with pytest.raises(ModelLoadError, match=message):
        load_checkpoint(sharded)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_gguf_file_is_refused(gguf_file: Path, kept: float) -> None:
    content = gguf_file.read_bytes()
    gguf_file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ModelLoadError, match=r"model\.gguf: truncated .*bytes"):
        load_checkpoint(gguf_file)


def test_a_file_that_only_claims_to_be_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ModelLoadError, match=r"not a GGUF file \(104 bytes"):
        load_checkpoint(tmp_path / "model.gguf")


def test_a_gguf_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "model.gguf", "qwen2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelLoadError, match=r"model\.gguf: architecture is 'qwen2'"):
        load_checkpoint(tmp_path / "model.gguf")


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no model at"):
        load_checkpoint(tmp_path / "nowhere")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ModelLoadError, match=r"neither a folder nor a \.gguf file"):
        load_checkpoint(tmp_path / "model.bin")


@pytest.mark.model
def test_the_embedded_model_is_read_in_seconds() -> None:
    start = time.process_time()
    checkpoint = load_checkpoint(resolve(EMBEDDED_MODEL).path)
    assert time.process_time() - start < 30
    assert sum(tensor.numel() for tensor in checkpoint.tensors.values()) == 134_515_008


def _change_tensors(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path) | changes
    path.unlink()  # the loaded tensors are mapped from it
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def _change_config(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _keep_first_shard(index: Path) -> None:
    weight_map = json.loads(index.read_text())["weight_map"]
    first = min(weight_map.values())
    index.write_text(
        json.dumps({"weight_map": {name: file for name, file in weight_map.items() if file == first}})
    )


def _index(folder: Path) -> Path:
    return folder / "model.safetensors.index.json"

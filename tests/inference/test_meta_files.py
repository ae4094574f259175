"""Meta's files: what `params.json` means, and damaged or hostile folders refused with what to do."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agentkit.errors import ModelLoadError
from agentkit.inference.base import SamplingParams, collect
from agentkit.inference.catalog import resolve
from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.config import Llama3Scaling, ModelConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.meta_params import config_from_params
from tests.inference.conversations import llama3_tokenizer_file
from tests.inference.random_llama import random_llama, save_as_meta

FIRST, SECOND = "consolidated.00.pth", "consolidated.01.pth"
QUERY = "layers.0.attention.wq.weight"
NORM = "layers.1.ffn_norm.weight"

# https://github.com/meta-llama/llama-models/blob/main/models/sku_list.py
LLAMA_3_1_8B = {
    "dim": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "n_kv_heads": 8,
    "vocab_size": 128256,
    "ffn_dim_multiplier": 1.3,
    "multiple_of": 1024,
    "norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "use_scaled_rope": True,
}
LLAMA_3_2_1B = {**LLAMA_3_1_8B, "dim": 2048, "n_layers": 16, "ffn_dim_multiplier": 1.5, "multiple_of": 256}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_as_meta(random_llama(), tmp_path / "model", num_files=2)


def test_the_parameters_of_llama_3_1_are_read() -> None:
    assert config_from_params(LLAMA_3_1_8B, tie_embeddings=False) == ModelConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_layers=32,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        rms_norm_eps=1e-5,
        rope_theta=500_000.0,
        rope_scaling=Llama3Scaling(
            factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8192
        ),
        context_length=131_072,
        tie_embeddings=False,
    )


def test_the_small_models_of_llama_3_2_are_scaled_further() -> None:
    config = config_from_params(LLAMA_3_2_1B, tie_embeddings=True)
    assert isinstance(config.rope_scaling, Llama3Scaling)
    assert config.rope_scaling.factor == 32.0
    assert config.intermediate_size == 8192


@pytest.mark.parametrize(
    ("changes", "context_length"),
    [
        ({}, 131_072),
        ({"use_scaled_rope": False}, 8192),
        ({"use_scaled_rope": None, "rope_theta": None}, 2048),
        ({"max_seq_len": 4096}, 4096),
    ],
)
def test_the_context_length_is_that_of_the_version(changes: dict[str, Any], context_length: int) -> None:
    params = {key: value for key, value in (LLAMA_3_1_8B | changes).items() if value is not None}
    assert config_from_params(params, tie_embeddings=False).context_length == context_length


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": None}, "no 'dim'"),
        ({"n_layers": None}, "no 'n_layers'"),
        ({"multiple_of": None}, "no 'multiple_of'"),
        ({"norm_eps": None}, "no 'norm_eps'"),
        ({"vocab_size": -1}, "vocab_size must be above 0, got -1"),
        ({"dim": "4096"}, "'dim' must be a whole number, got '4096'"),
        ({"dim": 4095}, "'dim' must be a multiple of 'n_heads', got 4095 and 32"),
        ({"n_heads": 0}, "'dim' must be a multiple of 'n_heads', got 4096 and 0"),
        ({"n_kv_heads": 5}, "num_heads must be a multiple of num_kv_heads, got 32 and 5"),
        ({"n_layers": 10**12}, "num_layers must be at most 1024"),
        ({"multiple_of": 0}, "'multiple_of' must be above 0, got 0"),
        ({"ffn_dim_multiplier": -1.0}, "intermediate_size must be above 0"),
        ({"ffn_dim_multiplier": float("inf")}, "'ffn_dim_multiplier' must be a finite number, got inf"),
        ({"norm_eps": 10**400}, "'norm_eps' must be a finite number"),
        ({"use_scaled_rope": "yes"}, "'use_scaled_rope' must be true or false, got 'yes'"),
        ({"quantization_args": {}}, "'quantization_args', which agentkit does not know"),
    ],
)
def test_parameters_that_we_cannot_run_are_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    params = {key: value for key, value in (LLAMA_3_1_8B | changes).items() if value is not None}
    (folder / "params.json").write_text(json.dumps(params))
    with pytest.raises(ModelLoadError, match=r"params\.json: .*" + message):
        load_checkpoint(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_fp32(tmp_path: Path, dtype: torch.dtype) -> None:
    model = random_llama()
    tensors = load_checkpoint(save_as_meta(model, tmp_path / "model", dtype=dtype)).tensors
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(tensors[name], model.state_dict()[name].to(dtype).float())


def test_safetensors_beside_metas_files_come_first(folder: Path) -> None:
    random_llama(max_position_embeddings=77).save_pretrained(folder)
    assert load_checkpoint(folder).config.context_length == 77


def test_stored_rotary_frequencies_are_ignored(folder: Path) -> None:
    before = load_checkpoint(folder).fingerprint
    for file in (FIRST, SECOND):
        change(folder / file, {"rope.freqs": torch.ones(8)})
    assert load_checkpoint(folder).fingerprint == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "params.json").unlink(), r"has no params\.json"),
        (lambda folder: (folder / "params.json").write_text("{"), r"params\.json is not valid JSON"),
        (lambda folder: (folder / FIRST).unlink(), rf"has 1 consolidated\.\*\.pth files, but no {FIRST}"),
        (lambda folder: (folder / SECOND).unlink(), r"wrongly shaped tensors: 23 \("),
        (lambda folder: (folder / SECOND).write_bytes(b""), rf"{SECOND} is truncated, damaged .*\(0 bytes\)"),
        (lambda folder: truncate(folder / SECOND), rf"{SECOND} is truncated, damaged"),
        (lambda folder: change(folder / SECOND, {QUERY: None}), r"do not hold the same tensors: 1 .*q_proj"),
        (
            lambda folder: change(folder / FIRST, {NORM: torch.ones(64)}),
            "different values of .*post_attention",
        ),
        (lambda folder: change(folder / FIRST, {NORM: torch.ones(32)}), r"post_attention\S* is \(32,\)"),
        (
            lambda folder: change(folder / SECOND, {NORM: torch.ones(32)}),
            "different values of .*post_attention",
        ),
        (
            lambda folder: change(folder / FIRST, {QUERY: torch.ones(32, 63)}),
            r"is \(32, 63\), should be \(64, 64\)",
        ),
        (
            lambda folder: change(folder / FIRST, {QUERY: torch.ones(33, 64)}),
            r"is \(33, 64\), should be \(64, 64\)",
        ),
        (lambda folder: change(folder / FIRST, {QUERY: torch.ones(32)}), r"is \(32,\), should be \(64, 64\)"),
        (lambda folder: change(folder / FIRST, {QUERY: torch.ones(32, 64).int()}), "torch.int32"),
        (lambda folder: change(folder / FIRST, {QUERY: "weights"}), "1 entries are something else"),
        (
            lambda folder: change(folder / FIRST, {QUERY: torch.ones(3, 3).to_sparse()}),
            "1 entries are something",
        ),
        (
            lambda folder: change(folder / FIRST, {"model.norm.weight": torch.ones(64)}),
            r"consolidated\.00\.pth: two tensors are both model\.norm\.weight",
        ),
        (lambda folder: torch.save([1], folder / FIRST), "must hold tensors by name, got list"),
        (lambda folder: torch.save({}, folder / FIRST), "must hold tensors by name, got dict"),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(ModelLoadError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({QUERY: None}, r"missing tensors: 1 \(model.layers.0.self_attn.q_proj.weight\)"),
        ({"layers.0.extra.weight": torch.ones(2)}, r"unexpected tensors: 1 \(layers.0.extra.weight\)"),
    ],
)
def test_tensors_that_are_missing_or_left_over_are_named(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    for file in (FIRST, SECOND):
        change(folder / file, changes)
    with pytest.raises(ModelLoadError, match=message):
        load_checkpoint(folder)


class Hostile:
    """Runs a command wherever it is unpickled."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self._command,)


def test_a_hostile_file_is_refused_and_does_nothing(folder: Path, tmp_path: Path) -> None:
    torch.save({QUERY: Hostile(f"touch {tmp_path}/ran")}, folder / FIRST)
    with pytest.raises(ModelLoadError, match=f"{FIRST} holds something other than tensors"):
        load_checkpoint(folder)
    assert not (tmp_path / "ran").exists()


def test_a_plain_hostile_pickle_is_refused_and_does_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / FIRST).write_bytes(pickle.dumps(Hostile(f"touch {tmp_path}/ran")))
    with pytest.raises(ModelLoadError, match="not a zip file"):
        load_checkpoint(folder)
    assert not (tmp_path / "ran").exists()


async def test_a_folder_of_metas_is_a_model_reference(tmp_path: Path) -> None:
    folder = save_as_meta(
        random_llama(vocab_size=128_256, num_hidden_layers=1, hidden_size=64), tmp_path / "tiny-llama"
    )
    (folder / "tokenizer.model").symlink_to(llama3_tokenizer_file())

    engine = await LocalEngine.load(str(folder))
    output = await collect(engine.generate(engine.tokenizer.encode("Hello"), SamplingParams(max_tokens=3)))
    await engine.close()

    assert resolve(str(folder)).name == engine.name == "tiny-llama"
    assert len(output.ids) == 3


def change(file: Path, changes: dict[str, Any]) -> None:
    content = torch.load(file, weights_only=True) | changes
    torch.save({name: value for name, value in content.items() if value is not None}, file)


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])

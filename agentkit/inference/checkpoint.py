"""A checkpoint on disk -> a checked configuration and every tensor it needs, in fp32.

The file formats are next door, in `safetensors_files`, `meta_files` and `gguf_file`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from agentkit.errors import ModelLoadError
from agentkit.inference.config import ModelConfig
from agentkit.inference.gguf_file import GGUFFile
from agentkit.inference.llama_tensors import EMBEDDING, HEAD, expected_shapes
from agentkit.inference.meta_files import MetaFolder, is_meta_folder
from agentkit.inference.safetensors_files import SafetensorsFolder, has_safetensors

# Old checkpoints store these buffers; they follow from the configuration.
_DERIVED_SUFFIX = "rotary_emb.inv_freq"
_NAMES_IN_ERROR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A model as it was on disk.

    `tensors` are fp32 on the CPU, named as transformers does: `model.layers.0.self_attn.q_proj.weight`.
    `fingerprint` is a SHA-256 over the configuration and every tensor's name, shape and CRC-32 of its values.
    It tells models apart whatever their file format; it is no proof against a forger, and the tokenizer is
    not part of it.
    """

    config: ModelConfig
    tensors: dict[str, torch.Tensor]
    fingerprint: str


class TensorSource(Protocol):
    """An opened checkpoint: what it says it holds is known before a tensor is read."""

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor, by its usual name or, where that is not known, by its own."""

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor in fp32 on the CPU.

        Raises:
            ModelLoadError: if its type is not one that we read.
        """


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a folder of safetensors with its `config.json`, a folder of Meta's files, or a `.gguf` file.

    Raises:
        ModelLoadError: if it is missing, damaged or not a Llama model, or if its tensors are not exactly
            those that its configuration asks for.
    """
    source = _open(path)
    names = _account_for(source, path)
    tensors = {name: source.read(name) for name in names}
    config = _settle_head(source.config, tensors)
    return Checkpoint(config=config, tensors=tensors, fingerprint=_fingerprint(config, tensors))


def _open(path: Path) -> TensorSource:
    if path.is_dir():
        # Downloads may hold the same weights twice; safetensors are the ones to trust.
        return (
            MetaFolder(path)
            if is_meta_folder(path) and not has_safetensors(path)
            else SafetensorsFolder(path)
        )
    if not path.exists():
        raise ModelLoadError(
            f"no model at {path}: name a folder with config.json and safetensors, a folder with params.json and "
            "consolidated.*.pth, or a .gguf file"
        )
    if path.suffix.lower() != ".gguf":
        raise ModelLoadError(
            f"{path} is neither a folder nor a .gguf file; name the folder that holds the model's files"
        )
    return GGUFFile(path)


def _account_for(source: TensorSource, path: Path) -> list[str]:
    """Return the names to read, after checking that nothing is missing, left over or of another shape."""
    expected = expected_shapes(source.config)
    # A tied model may store its head all the same.
    optional = {HEAD: (source.config.vocab_size, source.config.hidden_size)}
    found = {name: shape for name, shape in source.shapes.items() if not name.endswith(_DERIVED_SUFFIX)}
    wrong_shapes = [
        f"{name} is {shape}, should be {expected_shape}"
        for name, shape in found.items()
        if (expected_shape := (optional | expected).get(name, shape)) != shape
    ]
    problems = [
        _problem("missing tensors", sorted(expected.keys() - found.keys())),
        _problem("unexpected tensors", sorted(found.keys() - expected.keys() - optional.keys())),
        _problem("wrongly shaped tensors", wrong_shapes),
    ]
    if any(problems):
        raise ModelLoadError(
            f"{path} does not fit its configuration: {'; '.join(filter(None, problems))}. "
            "The checkpoint is incomplete or belongs to another model; download it again"
        )
    return list(found)


def _problem(kind: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _NAMES_IN_ERROR else ""
    return f"{kind}: {len(names)} ({', '.join(names[:_NAMES_IN_ERROR])}{more})"


def _settle_head(config: ModelConfig, tensors: dict[str, torch.Tensor]) -> ModelConfig:
    """Drop a stored head that equals the embedding; one that differs unties the model, as in transformers.

    Whether the head is stored depends on the file format, and the same model should be the same in all of them.
    """
    if HEAD not in tensors:
        return config
    tied = torch.equal(tensors[HEAD], tensors[EMBEDDING])
    if tied:
        del tensors[HEAD]
    return replace(config, tie_embeddings=tied)


def _fingerprint(config: ModelConfig, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(repr(config).encode())
    for name in sorted(tensors):
        values = tensors[name].contiguous()
        checksum = zlib.crc32(values.numpy().data)
        digest.update(f"\n{name} {tuple(values.shape)} {checksum:08x}".encode())
    return digest.hexdigest()

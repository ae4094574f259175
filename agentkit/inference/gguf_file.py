"""A GGUF file of a Llama model: its metadata, and its tensors in fp32 and in the order of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, GGUFValueType
from gguf.gguf_reader import ReaderTensor
from gguf.quants import dequantize

from agentkit.errors import ModelLoadError
from agentkit.inference.config import ModelConfig

_ROPE_DIVISORS = "rope_freqs.weight"
_TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GGUFFile:
    """An opened GGUF file; a `TensorSource`."""

    def __init__(self, path: Path) -> None:
        metadata, tensors = _open(path)
        divisors = tensors.pop(_ROPE_DIVISORS, None)
        self._path = path
        self._tensors = {_usual_name(name): tensor for name, tensor in tensors.items()}
        try:
            self.config = ModelConfig.from_gguf(
                metadata,
                tie_embeddings="output.weight" not in tensors,
                divisors=None if divisors is None else tuple(map(float, divisors.data.ravel())),
            )
        except ModelLoadError as exc:
            raise ModelLoadError(f"{path}: {exc}") from exc

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor, rows first as torch has them."""
        return {name: tuple(map(int, reversed(tensor.shape))) for name, tensor in self._tensors.items()}

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor, dequantised.

        Raises:
            ModelLoadError: if the `gguf` package cannot dequantise its type.
        """
        stored = self._tensors[name]
        try:
            values = dequantize(stored.data, stored.tensor_type)
        except NotImplementedError as exc:
            raise ModelLoadError(
                f"{self._path}: the tensor {stored.name} is {stored.tensor_type.name}, which cannot be "
                "dequantised; use a Q4_K_M, Q8_0 or F16 file"
            ) from exc
        tensor = torch.from_numpy(np.require(values, dtype=np.float32, requirements=["C", "W"]))
        if name.endswith("q_proj.weight"):
            return _unpermute(tensor, self.config.num_heads)
        if name.endswith("k_proj.weight"):
            return _unpermute(tensor, self.config.num_kv_heads)
        return tensor


def _open(path: Path) -> tuple[dict[str, Any], dict[str, ReaderTensor]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            magic = stream.read(4)
    except OSError as exc:
        raise ModelLoadError(f"{path} cannot be read: {exc.strerror}") from exc
    if magic != b"GGUF":
        raise ModelLoadError(f"{path} is not a GGUF file ({size} bytes, begins with {magic!r})")
    try:
        reader = GGUFReader(path)
        return _metadata(reader), {tensor.name: tensor for tensor in reader.tensors}
    # A file that ends early, or whose counts are damaged, fails wherever the reader happens to be.
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as exc:
        raise ModelLoadError(
            f"{path} is truncated or damaged ({size} bytes): {exc}; download it again"
        ) from exc


def _metadata(reader: GGUFReader) -> dict[str, Any]:
    """Return the metadata that is not an array, and the vocabulary's size where only its tokens are given."""
    metadata: dict[str, Any] = {
        name: field.contents()
        for name, field in reader.fields.items()
        if field.types[0] != GGUFValueType.ARRAY
    }
    tokens = reader.fields.get("tokenizer.ggml.tokens")
    if tokens is not None:
        metadata.setdefault("llama.vocab_size", len(tokens.data))
    return metadata


def _usual_name(name: str) -> str:
    """Return the name that transformers uses, or the file's own where there is none."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    match name.split("."):
        case ["blk", index, part, "weight"] if part in _LAYER_NAMES:
            return f"model.layers.{index}.{_LAYER_NAMES[part]}.weight"
        case _:
            return name


def _unpermute(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Undo llama.cpp's order of a head's rows: it rotates neighbouring rows together, we rotate halves."""
    rows, columns = weight.shape
    pairs = weight.view(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)

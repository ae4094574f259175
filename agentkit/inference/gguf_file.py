"""A GGUF file of a Llama model: its metadata, and its tensors in fp32 and in the order of transformers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from agentkit.errors import ModelLoadError
from agentkit.inference.config import ModelConfig
from agentkit.inference.gguf_header import TensorInfo, read_gguf_header
from agentkit.inference.llama_tensors import EMBEDDING, HEAD, NORM, halves_rotated, layer_tensor, renamed

_ROPE_DIVISORS = "rope_freqs.weight"
_TOP_NAMES = {"token_embd.weight": EMBEDDING, "output_norm.weight": NORM, "output.weight": HEAD}
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
# The `gguf` package dequantises whole tensors through copies of them, 16 rows at a time. In pieces of this
# size, a multiple of every block, it takes half the time and its copies stay in the processor's cache.
_VALUES_AT_ONCE = 1 << 16


class GGUFFile:
    """An opened GGUF file; a `TensorSource`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            header = read_gguf_header(path, wanted=lambda key: not key.startswith("tokenizer."))
            self._tensors = renamed(header.tensors, _usual_name)
            self._check_extents()
            # Where a file does not say how many tokens it has, its embedding does.
            if EMBEDDING in self._tensors:
                header.metadata.setdefault("llama.vocab_size", self._tensors[EMBEDDING].shape[0])
            self.config = ModelConfig.from_gguf(
                header.metadata, tie_embeddings=HEAD not in self._tensors, divisors=self._take_divisors()
            )
        except ModelLoadError as exc:
            raise ModelLoadError(f"{path}: {exc}") from exc

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor."""
        return {name: info.shape for name, info in self._tensors.items()}

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor, dequantised.

        Raises:
            ModelLoadError: if the `gguf` package cannot dequantise its type.
        """
        info = self._tensors[name]
        try:
            values = self._values(info)
        except NotImplementedError as exc:
            raise ModelLoadError(
                f"{self._path}: the tensor {name} is {GGMLQuantizationType(info.kind).name}, which cannot be "
                "dequantised; use a Q4_K_M, Q8_0 or F16 file"
            ) from exc
        return halves_rotated(name, torch.from_numpy(values).view(info.shape), self.config)

    def _values(self, info: TensorInfo) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        values = np.empty(math.prod(info.shape), dtype=np.float32)
        with self._path.open("rb") as stream:
            stream.seek(info.start)
            for first in range(0, len(values), _VALUES_AT_ONCE):
                piece = values[first : first + _VALUES_AT_ONCE]
                piece[:] = _read_values(stream, info.kind, len(piece))
        return values

    def _take_divisors(self) -> tuple[float, ...] | None:
        info = self._tensors.pop(_ROPE_DIVISORS, None)
        return None if info is None else tuple(self._values(info).tolist())

    def _check_extents(self) -> None:
        """Refuse tensors of an unknown type, with half a block, or beyond the end of the file."""
        size = self._path.stat().st_size
        for name, info in self._tensors.items():
            if info.kind not in list(GGMLQuantizationType):
                raise ModelLoadError(f"the tensor {name} is of type {info.kind}, which is not known")
            if not info.shape or info.shape[-1] % GGML_QUANT_SIZES[info.kind][0]:
                raise ModelLoadError(f"the tensor {name} of shape {info.shape} is not made of whole blocks")
            if info.start + _num_bytes(info.kind, math.prod(info.shape)) > size:
                raise ModelLoadError(f"truncated ({size} bytes, {name} goes beyond); download it again")


def _num_bytes(kind: int, num_values: int) -> int:
    block_values, block_bytes = GGML_QUANT_SIZES[kind]
    return int(num_values // block_values * block_bytes)


def _read_values(stream: BinaryIO, kind: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    stored = np.frombuffer(stream.read(_num_bytes(kind, count)), dtype=np.uint8)
    values: np.ndarray[tuple[int], np.dtype[np.float32]] = dequantize(
        stored[None], GGMLQuantizationType(kind)
    )[0]
    return values


def _usual_name(name: str) -> str:
    """Return the name that transformers uses, or the file's own where there is none."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    match name.split("."):
        case ["blk", index, part, "weight"] if part in _LAYER_NAMES:
            return layer_tensor(index, _LAYER_NAMES[part])
        case _:
            return name

"""A folder as Meta publishes it: `params.json` and `consolidated.*.pth`, one file for each part of the model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from agentkit.errors import ModelLoadError
from agentkit.inference.json_files import read_json_object
from agentkit.inference.llama_tensors import (
    EMBEDDING,
    HEAD,
    NORM,
    expected_shapes,
    halves_rotated,
    layer_tensor,
    renamed,
)
from agentkit.inference.meta_params import config_from_params

PARAMS_FILE = "params.json"
_SHARD_PATTERN = "consolidated.*.pth"
_READABLE = frozenset({torch.float32, torch.float16, torch.bfloat16})
_NAMES_IN_ERROR = 3

_TOP_NAMES = {"tok_embeddings.weight": EMBEDDING, "norm.weight": NORM, "output.weight": HEAD}
_LAYER_NAMES = {
    "attention_norm": "input_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
}
# Old files store the rotary frequencies; they follow from the configuration.
_DERIVED = "rope.freqs"


class MetaFolder:
    """An opened folder; a `TensorSource`.

    Every file holds a slice of most tensors and a copy of the rest. Which is which, and along what axis, follows
    from the shapes: the slices have to make up exactly the shape that the configuration demands.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards = _load_shards(folder)
        path = folder / PARAMS_FILE
        if not path.is_file():
            raise ModelLoadError(
                f"{folder} has no {PARAMS_FILE}: it belongs beside the {_SHARD_PATTERN} files"
            )
        params = read_json_object(path)
        try:
            self.config = config_from_params(params, tie_embeddings=HEAD not in self._shards[0])
        except ModelLoadError as exc:
            raise ModelLoadError(f"{path}: {exc}") from exc
        expected = expected_shapes(self.config)
        self._axes = {name: _axis(self._slices(name), expected.get(name)) for name in self._shards[0]}

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor, put together; of one whose slices do not fit, that of its first slice."""
        return {name: self._shape(name) for name in self._shards[0]}

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor in fp32, put together from its slices.

        Raises:
            ModelLoadError: if it is not stored as fp32, fp16 or bf16, or its copies differ.
        """
        slices, axis = self._slices(name), self._axes[name]
        unreadable = [part.dtype for part in slices if part.dtype not in _READABLE]
        if unreadable:
            raise ModelLoadError(
                f"{self._folder}: the tensor {name} is {unreadable[0]}; agentkit reads fp32, fp16 and bf16"
            )
        if axis is None and not all(torch.equal(part, slices[0]) for part in slices[1:]):
            raise ModelLoadError(
                f"{self._folder}: the {len(slices)} files have different values of {name}, which they should "
                "share; they belong to different models, download them again"
            )
        whole = slices[0] if axis is None else torch.cat(slices, dim=axis)
        return halves_rotated(name, whole.to(torch.float32), self.config)

    def _slices(self, name: str) -> list[torch.Tensor]:
        return [shard[name] for shard in self._shards]

    def _shape(self, name: str) -> tuple[int, ...]:
        shape, axis = list(self._shards[0][name].shape), self._axes[name]
        if axis is not None:
            shape[axis] = sum(part.shape[axis] for part in self._slices(name))
        return tuple(shape)


def is_meta_folder(folder: Path) -> bool:
    """Whether a folder holds weights in Meta's layout."""
    return any(folder.glob(_SHARD_PATTERN))


def _load_shards(folder: Path) -> list[dict[str, torch.Tensor]]:
    """Return each file's tensors by their usual names; they all have the same names."""
    found = sorted(folder.glob(_SHARD_PATTERN))
    files = [folder / f"consolidated.{index:02d}.pth" for index in range(len(found))]
    missing = [file.name for file in files if file not in found]
    if missing:
        raise ModelLoadError(
            f"{folder} has {len(found)} {_SHARD_PATTERN} files, but no {missing[0]}; download it again"
        )
    shards = [_load_shard(file) for file in files]
    for file, shard in zip(files, shards, strict=True):
        differing = sorted(shard.keys() ^ shards[0].keys())
        if differing:
            raise ModelLoadError(
                f"{file} and {files[0].name} do not hold the same tensors: {len(differing)} are in only one of "
                f"them ({', '.join(differing[:_NAMES_IN_ERROR])}); download them again"
            )
    return shards


def _load_shard(file: Path) -> dict[str, torch.Tensor]:
    content = _load(file)
    if not isinstance(content, dict) or not content:
        raise ModelLoadError(f"{file} must hold tensors by name, got {type(content).__name__}")
    strange = [name for name, value in content.items() if not (isinstance(name, str) and _is_plain(value))]
    if strange:
        raise ModelLoadError(
            f"{file} must hold tensors by name and nothing else; {len(strange)} entries are something else"
        )
    content.pop(_DERIVED, None)
    try:
        return renamed(content, _usual_name)
    except ModelLoadError as exc:
        raise ModelLoadError(f"{file}: {exc}") from exc


def _load(file: Path) -> Any:
    try:
        # Mapped: pages are read when a tensor is, and can be dropped again.
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as exc:
        raise ModelLoadError(
            f"{file} holds something other than tensors, which agentkit does not unpickle: it could run code "
            "of whoever made the file. Download it again from its publisher, or use safetensors"
        ) from exc
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as exc:
        raise ModelLoadError(
            f"{file} is truncated, damaged or not a zip file of torch.save ({file.stat().st_size} bytes); "
            "download it again"
        ) from exc


def _is_plain(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized


def _axis(slices: Sequence[torch.Tensor], expected: tuple[int, ...] | None) -> int | None:
    """Return the axis along which the slices make up the expected shape; None if each has the shape already.

    There is at most one: slices that fit along two axes would each have the expected shape. Slices that fit
    along none count as whole; what they are is then not what the configuration expects.
    """
    shapes = [tuple(part.shape) for part in slices]
    if expected is None or all(shape == expected for shape in shapes):
        return None
    for axis, length in enumerate(expected):
        alike = all(_differs_only_in(axis, shape, expected) for shape in shapes)
        if alike and sum(shape[axis] for shape in shapes) == length:
            return axis
    return None


def _differs_only_in(axis: int, shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    same_rank = len(shape) == len(expected)
    return same_rank and shape[:axis] == expected[:axis] and shape[axis + 1 :] == expected[axis + 1 :]


def _usual_name(name: str) -> str:
    """Return the name that transformers uses, or the file's own where there is none."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    match name.split(".", 2):
        case ["layers", index, part] if part.removesuffix(".weight") in _LAYER_NAMES:
            return layer_tensor(index, _LAYER_NAMES[part.removesuffix(".weight")])
        case _:
            return name

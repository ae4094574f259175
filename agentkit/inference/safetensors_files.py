"""A folder with `config.json` and safetensors, in one file or sharded. Knows no tensor by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from agentkit.errors import ModelLoadError
from agentkit.inference.config import ModelConfig
from agentkit.inference.json_files import read_json_object

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_READABLE = frozenset({torch.float32, torch.float16, torch.bfloat16})


class SafetensorsFolder:
    """An opened folder; a `TensorSource`. Its fp32 tensors are mapped from the files, not copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.config = _read_config(folder)
        self._handles: dict[str, Any] = {}
        for file in _tensor_files(folder):
            handle = _open(file)
            for name in handle.keys():  # noqa: SIM118  # the handle is no mapping
                if name in self._handles:
                    raise ModelLoadError(f"{folder} holds the tensor {name} in more than one file")
                self._handles[name] = handle

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor."""
        return {name: tuple(handle.get_slice(name).get_shape()) for name, handle in self._handles.items()}

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor in fp32.

        Raises:
            ModelLoadError: if it is not stored as fp32, fp16 or bf16.
        """
        tensor: torch.Tensor = self._handles[name].get_tensor(name)
        if tensor.dtype not in _READABLE:
            raise ModelLoadError(
                f"{self._folder}: the tensor {name} is {tensor.dtype}; agentkit reads fp32, fp16 and bf16"
            )
        return tensor.to(torch.float32)


def has_safetensors(folder: Path) -> bool:
    """Whether a folder holds weights in this format."""
    return (folder / INDEX_FILE).is_file() or (folder / SINGLE_FILE).is_file()


def _read_config(folder: Path) -> ModelConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelLoadError(f"{folder} has no config.json: name the folder that holds the model's files")
    content = read_json_object(path)
    try:
        return ModelConfig.from_hf(content)
    except ModelLoadError as exc:
        raise ModelLoadError(f"{path}: {exc}") from exc


def _tensor_files(folder: Path) -> list[Path]:
    index = folder / INDEX_FILE
    if index.is_file():
        files = _shards(index)
    elif (folder / SINGLE_FILE).is_file():
        files = [folder / SINGLE_FILE]
    else:
        raise ModelLoadError(
            f"{folder} has neither {SINGLE_FILE} nor {INDEX_FILE}; agentkit reads safetensors"
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelLoadError(
            f"{folder} lacks {len(missing)} of its {len(files)} safetensors files, first {missing[0]}; "
            "download it again"
        )
    return files


def _shards(index: Path) -> list[Path]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelLoadError(f"{index} has no weight_map; download it again")
    names = sorted({str(name) for name in weight_map.values()})
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise ModelLoadError(f"{index} names files outside its folder, first {outside[0]!r}")
    return [index.parent / name for name in names]


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt", device="cpu")
    except (SafetensorError, OSError) as exc:
        size = file.stat().st_size
        wanted = _size_by_header(file, size)
        expectation = f", its header says {wanted}" if wanted not in {None, size} else ""
        raise ModelLoadError(
            f"{file} is truncated or damaged ({size} bytes{expectation}): {exc}; download it again"
        ) from exc


def _size_by_header(file: Path, size: int) -> int | None:
    """Return how long a safetensors file says it is, or None where its header cannot be read."""
    # https://huggingface.co/docs/safetensors: the header's length in 8 bytes, the header in JSON, the data.
    with file.open("rb") as stream:
        header_len = int.from_bytes(stream.read(8), "little")
        if not 0 < header_len <= size - 8:
            return None
        try:
            header = json.loads(stream.read(header_len))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
            return 8 + header_len + max(ends)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return None

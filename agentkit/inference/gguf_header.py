"""The header of a GGUF file: its metadata, and where its tensors are. Knows no model, reads no tensor.

The `gguf` package takes seconds for a vocabulary: it makes an array of every string. This takes a tenth of one.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from agentkit.errors import ModelLoadError

# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_VERSIONS = (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_ALIGNMENT = "general.alignment"
_DEFAULT_ALIGNMENT = 32
_MAX_DIMENSIONS = 4


class _Kind(IntEnum):
    """The kinds of values that are not numbers."""

    STRING = 8
    ARRAY = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """A tensor of the file: its shape as torch has it, its type's number, and its first byte in the file."""

    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFHeader:
    """The wanted keys of a file, as numbers, strings and lists of them, and all its tensors by name."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


def read_gguf_header(path: Path, *, wanted: Callable[[str], bool]) -> GGUFHeader:
    """Read the header of a GGUF file, with the wanted keys of its metadata.

    Raises:
        ModelLoadError: if it is not a GGUF file, is of an unknown version, or ends within its header. The
            message does not name the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).header(wanted)
    except OSError as exc:
        raise ModelLoadError(f"cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, struct.error, OverflowError, RecursionError) as exc:
        raise ModelLoadError(f"truncated or damaged ({size} bytes); download it again") from exc


class _Reader:
    """Reads values one after another; past the end of the content it raises `struct.error` or ValueError."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._at = 0

    def header(self, wanted: Callable[[str], bool]) -> GGUFHeader:
        magic = self._bytes(4)
        if magic != b"GGUF":
            raise ModelLoadError(f"not a GGUF file ({len(self._content)} bytes, begins with {magic!r})")
        version = self._number("I")
        if version not in _VERSIONS:
            raise ModelLoadError(f"GGUF version {version} is not known; agentkit reads versions 2 and 3")
        num_tensors, num_keys = self._number("Q"), self._number("Q")
        found: dict[str, Any] = {}
        for _ in range(num_keys):
            key, kind = self._string(), self._number("I")
            if wanted(key) or key == _ALIGNMENT:
                found[key] = self._value(kind)
            else:
                self._skip(kind)
        alignment = found.get(_ALIGNMENT, _DEFAULT_ALIGNMENT)
        if not wanted(_ALIGNMENT):
            found.pop(_ALIGNMENT, None)
        return GGUFHeader(metadata=found, tensors=self._tensors(num_tensors, alignment))

    def _tensors(self, count: int, alignment: Any) -> dict[str, TensorInfo]:
        described = [self._tensor() for _ in range(count)]
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"the alignment is {alignment!r}")
        data_start = self._at + -self._at % alignment
        tensors = {
            name: TensorInfo(shape=shape, kind=kind, start=data_start + offset)
            for name, shape, kind, offset in described
        }
        if len(tensors) != count:
            raise ValueError(f"{count} tensors have {len(tensors)} names")
        return tensors

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name, num_dimensions = self._string(), self._number("I")
        if num_dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"a tensor of {num_dimensions} dimensions")
        # The file has the dimension first that varies fastest.
        shape = tuple(self._number("Q") for _ in range(num_dimensions))[::-1]
        return name, shape, self._number("I"), self._number("Q")

    def _value(self, kind: int) -> Any:
        match kind:
            case _Kind.STRING:
                return self._string()
            case _Kind.ARRAY:
                return self._array()
            case _:
                return self._number(_NUMBERS[kind])

    def _array(self) -> list[Any]:
        kind, count = self._number("I"), self._number("Q")
        if kind in _NUMBERS:
            layout = f"<{count}{_NUMBERS[kind]}"
            return list(struct.unpack(layout, self._bytes(struct.calcsize(layout))))
        return [self._value(kind) for _ in range(count)]

    def _skip(self, kind: int) -> None:
        match kind:
            case _Kind.STRING:
                length = self._number("Q")
                self._at += length
            case _Kind.ARRAY:
                self._skip_array()
            case _:
                self._at += struct.calcsize(f"<{_NUMBERS[kind]}")

    def _skip_array(self) -> None:
        kind, count = self._number("I"), self._number("Q")
        if kind in _NUMBERS:
            self._at += count * struct.calcsize(f"<{_NUMBERS[kind]}")
            return
        for _ in range(count):
            self._skip(kind)

    def _number(self, code: str) -> Any:
        [value] = struct.unpack_from(f"<{code}", self._content, self._at)
        self._at += struct.calcsize(f"<{code}")
        return value

    def _string(self) -> str:
        return self._bytes(self._number("Q")).decode()

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._content):
            raise ValueError(f"ends at {len(self._content)}, wanted {end}")
        content = self._content[self._at : end]
        self._at = end
        return content

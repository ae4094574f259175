"""The metadata of a GGUF file, without its tensors. Knows no model.

The `gguf` package takes seconds for a vocabulary: it makes an array of every string. This takes a tenth of one.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

from agentkit.errors import ModelLoadError

# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_VERSIONS = (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class _Kind(IntEnum):
    """The kinds of values that are not numbers."""

    STRING = 8
    ARRAY = 9


def read_gguf_metadata(path: Path, *, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Return the wanted keys of a GGUF file: numbers, strings and lists of them.

    Raises:
        ModelLoadError: if it is not a GGUF file, is of an unknown version, or ends within its metadata. The
            message does not name the file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).metadata(wanted)
    except (ValueError, KeyError, struct.error) as exc:
        raise ModelLoadError(f"not a GGUF file, or truncated or damaged ({size} bytes)") from exc


class _Reader:
    """Reads values one after another; past the end of the content it raises `struct.error`."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._at = 0

    def metadata(self, wanted: Callable[[str], bool]) -> dict[str, Any]:
        magic, version = self._bytes(4), self._number("I")
        if magic != b"GGUF" or version not in _VERSIONS:
            raise ValueError(f"begins with {magic!r}, version {version}")
        self._number("Q")  # how many tensors there are
        found = {}
        for _ in range(self._number("Q")):
            key = self._string()
            value = self._value(self._number("I"))
            if wanted(key):
                found[key] = value
        return found

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

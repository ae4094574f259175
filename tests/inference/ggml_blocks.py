"""The block layouts of ggml, decoded one value at a time as its specification describes them.

https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h has the blocks, ggml-quants.c their values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

FLOATS = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)
K_QUANTS = (GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_K, GGMLQuantizationType.Q6_K)

Array = np.ndarray[Any, Any]


def packed(weight: Array, kind: GGMLQuantizationType) -> Array:
    """Return the weight as rows of blocks; of a kind that the `gguf` package cannot write, random blocks."""
    return _random_blocks(weight.shape, kind) if kind in K_QUANTS else quantize(weight, kind)


def unpacked(rows: Array, kind: GGMLQuantizationType) -> Array:
    """Return the values of rows of blocks."""
    if kind in FLOATS:
        return np.array(dequantize(rows, kind))
    size = GGML_QUANT_SIZES[kind][1]
    decode = _DECODERS[kind]
    content = rows.tobytes()
    values = [value for at in range(0, len(content), size) for value in decode(content[at : at + size])]
    return np.array(values, dtype=np.float32).reshape(rows.shape[0], -1)


def _random_blocks(shape: tuple[int, ...], kind: GGMLQuantizationType) -> Array:
    """Return random blocks whose values are about as large as a weight's."""
    block_values, block_bytes = GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(shape[0])
    blocks = random.integers(0, 256, (shape[0] * shape[1] // block_values, block_bytes), dtype=np.uint8)
    scale = random.uniform(1e-4, 2e-4, len(blocks))
    if kind == GGMLQuantizationType.Q6_K:
        blocks[:, -2:] = _halves(scale / 10)
    else:
        blocks[:, :2] = _halves(scale)
        blocks[:, 2:4] = _halves(scale * (15.5 if kind == GGMLQuantizationType.Q5_K else 7.5))
    return blocks.reshape(shape[0], -1)


def _halves(values: Array) -> Array:
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


def _q4_0(block: bytes) -> list[float]:
    [d] = struct.unpack_from("<e", block)
    return [d * (q - 8) for q in _nibbles(block[2:])]


def _q4_1(block: bytes) -> list[float]:
    d, m = struct.unpack_from("<ee", block)
    return [d * q + m for q in _nibbles(block[4:])]


def _q5_0(block: bytes) -> list[float]:
    d, high = struct.unpack_from("<eI", block)
    return [d * ((q | (high >> i & 1) << 4) - 16) for i, q in enumerate(_nibbles(block[6:]))]


def _q5_1(block: bytes) -> list[float]:
    d, m, high = struct.unpack_from("<eeI", block)
    return [d * (q | (high >> i & 1) << 4) + m for i, q in enumerate(_nibbles(block[8:]))]


def _q8_0(block: bytes) -> list[float]:
    d, *quants = struct.unpack("<e32b", block)
    return [d * q for q in quants]


def _q4_k(block: bytes) -> list[float]:
    d, d_min = struct.unpack_from("<ee", block)
    values: list[float] = []
    for pair in range(4):
        quants = block[16 + 32 * pair : 48 + 32 * pair]
        scale, minimum = _scale_and_minimum(block[4:16], 2 * pair)
        values += [d * scale * (q & 15) - d_min * minimum for q in quants]
        scale, minimum = _scale_and_minimum(block[4:16], 2 * pair + 1)
        values += [d * scale * (q >> 4) - d_min * minimum for q in quants]
    return values


def _q5_k(block: bytes) -> list[float]:
    d, d_min = struct.unpack_from("<ee", block)
    high = block[16:48]
    values: list[float] = []
    for pair in range(4):
        quants = block[48 + 32 * pair : 80 + 32 * pair]
        scale, minimum = _scale_and_minimum(block[4:16], 2 * pair)
        fifth = [(h >> 2 * pair & 1) << 4 for h in high]
        values += [d * scale * ((q & 15) + h) - d_min * minimum for q, h in zip(quants, fifth, strict=True)]
        scale, minimum = _scale_and_minimum(block[4:16], 2 * pair + 1)
        fifth = [(h >> 2 * pair + 1 & 1) << 4 for h in high]
        values += [d * scale * ((q >> 4) + h) - d_min * minimum for q, h in zip(quants, fifth, strict=True)]
    return values


def _q6_k(block: bytes) -> list[float]:
    low, high = block[:128], block[128:192]
    *scales, d = struct.unpack("<16be", block[192:])
    values: list[float] = []
    for half in range(2):
        for quarter in range(4):
            for i in range(32):
                byte = low[64 * half + 32 * (quarter % 2) + i]
                lower = byte >> 4 if quarter >= 2 else byte & 15
                upper = high[32 * half + i] >> 2 * quarter & 3
                scale = scales[8 * half + 2 * quarter + i // 16]
                values.append(d * scale * ((lower | upper << 4) - 32))
    return values


def _nibbles(quants: bytes) -> Iterator[int]:
    yield from (q & 15 for q in quants)
    yield from (q >> 4 for q in quants)


def _scale_and_minimum(scales: bytes, index: int) -> tuple[int, int]:
    if index < 4:
        return scales[index] & 63, scales[index + 4] & 63
    low, high = scales[index + 4], (scales[index - 4] >> 6, scales[index] >> 6)
    return low & 15 | high[0] << 4, low >> 4 | high[1] << 4


_DECODERS: dict[GGMLQuantizationType, Callable[[bytes], list[float]]] = {
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q5_0: _q5_0,
    GGMLQuantizationType.Q5_1: _q5_1,
    GGMLQuantizationType.Q8_0: _q8_0,
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q5_K: _q5_k,
    GGMLQuantizationType.Q6_K: _q6_k,
}

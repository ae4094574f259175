"""Compiled attention of a few rows over the slots of a pool: keys and values are written, then read.

Knows no weights and no threads.
"""

from __future__ import annotations

import numpy as np

from agentkit.inference.kernel_arrays import Places, Scratch
from agentkit.inference.simd import LANES, add, exp, fma, inner, load, multiply, splat, store, total, zeros


@inner
def append(layer: int, row: int, head: int, places: Places, scratch: Scratch) -> None:
    """Write a row's key, turned to its position, and its value into the cache."""
    head_dim = places.keys.shape[3]
    num_kv_heads = places.keys.shape[1]
    key = scratch.attended.shape[1] + head * head_dim
    value = key + num_kv_heads * head_dim
    _rotate(scratch.qkv, row, key, places)
    slot = places.slots[row, places.lengths[row] - 1]
    for column in range(0, head_dim, LANES):
        store(places.keys, (layer, head, slot, column), load(scratch.qkv, (row, key + column)))
        store(places.values, (layer, head, slot, column), load(scratch.qkv, (row, value + column)))


@inner
def _rotate(heads: np.ndarray, row: int, start: int, places: Places) -> None:
    """Turn the head whose numbers begin at `start` to its row's position, in place."""
    half = places.cosines.shape[1] // 2
    for column in range(0, half, LANES):
        left = load(heads, (row, start + column))
        right = load(heads, (row, start + half + column))
        turned = multiply(right, load(places.signed_sines, (row, column)))
        store(heads, (row, start + column), fma(left, load(places.cosines, (row, column)), turned))
        turned = multiply(left, load(places.signed_sines, (row, half + column)))
        cosines = load(places.cosines, (row, half + column))
        store(heads, (row, start + half + column), fma(right, cosines, turned))


@inner
def attend(layer: int, row: int, head: int, places: Places, scratch: Scratch, scores: np.ndarray) -> None:
    """Let one head of a row attend to everything up to its own position."""
    head_dim = places.keys.shape[3]
    kv_head = head * places.keys.shape[1] * head_dim // scratch.attended.shape[1]
    length = places.lengths[row]
    query = head * head_dim
    _rotate(scratch.qkv, row, query, places)
    scale = np.float32(head_dim**-0.5)

    highest = np.float32(-np.inf)
    for position in range(length):
        slot = places.slots[row, position]
        products = zeros()
        for column in range(0, head_dim, LANES):
            key = load(places.keys, (layer, kv_head, slot, column))
            products = fma(key, load(scratch.qkv, (row, query + column)), products)
        score = total(products) * scale
        scores[position] = score
        highest = max(highest, score)

    padded = (length + LANES - 1) // LANES * LANES
    scores[length:padded] = -np.inf
    sums = zeros()
    for position in range(0, padded, LANES):
        weight = exp(add(load(scores, (position,)), splat(-highest)))
        store(scores, (position,), weight)
        sums = add(sums, weight)
    share = splat(np.float32(1.0) / total(sums))

    for column in range(0, head_dim, LANES):
        mixed = zeros()
        for position in range(length):
            value = load(places.values, (layer, kv_head, places.slots[row, position], column))
            mixed = fma(splat(scores[position]), value, mixed)
        store(scratch.attended, (row, query + column), multiply(mixed, share))

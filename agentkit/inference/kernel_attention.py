"""Compiled attention of a few rows over the slots of a pool: keys and values are written, then read.

The positions of a row are attended to in segments, each by whoever comes, for all heads that share keys and values:
these are read once. What the segments give is then put together (flash decoding, https://arxiv.org/abs/2205.14135 in
parts). Knows no weights and no threads.
"""

from __future__ import annotations

import numpy as np

from agentkit.inference.kernel_arrays import Places, Scratch
from agentkit.inference.quantized import GROUP
from agentkit.inference.simd import (
    LANES,
    PREFETCHED_BYTES,
    add,
    exp,
    fma,
    inner,
    larger,
    largest,
    load,
    multiply,
    prefetch,
    splat,
    store,
    total,
    totals,
    zeros,
)

SEGMENT = 128
"""Positions of a share. Their keys and values, of one head, stay in the cache that is nearest to the processor."""

HEADS_AT_ONCE = 4
"""So many heads that share keys and values use each of these once it is read."""


@inner
def append(layer: int, row: int, kv_head: int, places: Places, scratch: Scratch) -> None:
    """Turn a row's key and the queries that ask for it to the row's position; write the key and value to the cache."""
    head_dim = places.keys.shape[3]
    num_kv_heads = places.keys.shape[1]
    queries = scratch.attended.shape[1]
    group = queries // head_dim // num_kv_heads
    for head in range(kv_head * group, (kv_head + 1) * group):
        _rotate(scratch.qkv, row, head * head_dim, places)
    key = queries + kv_head * head_dim
    value = key + num_kv_heads * head_dim
    _rotate(scratch.qkv, row, key, places)
    slot = places.slots[row, places.lengths[row] - 1]
    for column in range(0, head_dim, LANES):
        store(places.keys, (layer, kv_head, slot, column), load(scratch.qkv, (row, key + column)))
        store(places.values, (layer, kv_head, slot, column), load(scratch.qkv, (row, value + column)))


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
def segments(positions: int) -> int:
    """Return how many segments so many positions have."""
    return (positions + SEGMENT - 1) // SEGMENT


@inner
def attend(
    layer: int, row: int, kv_head: int, segment: int, places: Places, scratch: Scratch, scores: np.ndarray
) -> None:
    """Let the heads that share a key-value head attend to a segment of what their row sees, if it goes so far.

    `scores` (HEADS_AT_ONCE, SEGMENT) are the calling thread's.
    """
    head_dim = places.keys.shape[3]
    group = scratch.attended.shape[1] // head_dim // places.keys.shape[1]
    start = segment * SEGMENT
    end = min(start + SEGMENT, places.lengths[row])
    if start >= end:
        return
    last = (kv_head + 1) * group - 1
    for first in range(kv_head * group, last + 1, HEADS_AT_ONCE):
        _score(layer, row, kv_head, first, last, start, end, places, scratch, scores)
        for index in range(min(HEADS_AT_ONCE, last + 1 - first)):
            _exponentiate(row, first + index, segment, end - start, scratch, scores[index], head_dim)
        _mix(layer, row, kv_head, first, last, segment, end - start, places, scratch, scores)


@inner
def _score(
    layer: int,
    row: int,
    kv_head: int,
    first: int,
    last: int,
    start: int,
    end: int,
    places: Places,
    scratch: Scratch,
    scores: np.ndarray,
) -> None:
    """Write the products of a few heads' queries, from `first` on, with the keys from `start` to `end`.

    Where fewer heads are left, the last one is computed again.
    """
    head_dim = places.keys.shape[3]
    queries = scratch.qkv
    one, two = first * head_dim, min(first + 1, last) * head_dim
    three, four = min(first + 2, last) * head_dim, min(first + 3, last) * head_dim
    for position in range(start, end):
        slot = places.slots[row, position]
        for column in range(0, head_dim, GROUP):
            prefetch(places.keys, (layer, kv_head, slot, column), PREFETCHED_BYTES)
            prefetch(places.values, (layer, kv_head, slot, column), 0)
        a, b, c, d = zeros(), zeros(), zeros(), zeros()
        for column in range(0, head_dim, LANES):
            key = load(places.keys, (layer, kv_head, slot, column))
            a = fma(key, load(queries, (row, one + column)), a)
            b = fma(key, load(queries, (row, two + column)), b)
            c = fma(key, load(queries, (row, three + column)), c)
            d = fma(key, load(queries, (row, four + column)), d)
        place = position - start
        scores[0, place], scores[1, place], scores[2, place], scores[3, place] = totals(a, b, c, d)


@inner
def _exponentiate(
    row: int, head: int, segment: int, positions: int, scratch: Scratch, scores: np.ndarray, head_dim: int
) -> None:
    """Make weights of the products of one head; note the highest score, and the sum of the weights."""
    scale = np.float32(head_dim**-0.5)
    padded = (positions + LANES - 1) // LANES * LANES
    scores[positions:padded] = -np.inf
    most = load(scores, (0,))
    for place in range(LANES, padded, LANES):
        most = larger(most, load(scores, (place,)))
    highest = largest(most)
    sums = zeros()
    for place in range(0, padded, LANES):
        weight = exp(multiply(add(load(scores, (place,)), splat(-highest)), splat(scale)))
        store(scores, (place,), weight)
        sums = add(sums, weight)
    scratch.highest[row, head, segment] = highest * scale
    scratch.sums[row, head, segment] = total(sums)


@inner
def _mix(
    layer: int,
    row: int,
    kv_head: int,
    first: int,
    last: int,
    segment: int,
    positions: int,
    places: Places,
    scratch: Scratch,
    weights: np.ndarray,
) -> None:
    """Add up the values of a segment by the weights of the heads that `_score` was for."""
    start = segment * SEGMENT
    mixed = scratch.mixed
    two, three, four = min(first + 1, last), min(first + 2, last), min(first + 3, last)
    for column in range(0, places.keys.shape[3], 2 * LANES):
        a, b, c, d = zeros(), zeros(), zeros(), zeros()
        e, f, g, h = zeros(), zeros(), zeros(), zeros()
        for place in range(positions):
            slot = places.slots[row, start + place]
            low = load(places.values, (layer, kv_head, slot, column))
            up = load(places.values, (layer, kv_head, slot, column + LANES))
            weight = splat(weights[0, place])
            a, e = fma(weight, low, a), fma(weight, up, e)
            weight = splat(weights[1, place])
            b, f = fma(weight, low, b), fma(weight, up, f)
            weight = splat(weights[2, place])
            c, g = fma(weight, low, c), fma(weight, up, g)
            weight = splat(weights[3, place])
            d, h = fma(weight, low, d), fma(weight, up, h)
        high = column + LANES
        store(mixed, (row, four, segment, column), d)
        store(mixed, (row, four, segment, high), h)
        store(mixed, (row, three, segment, column), c)
        store(mixed, (row, three, segment, high), g)
        store(mixed, (row, two, segment, column), b)
        store(mixed, (row, two, segment, high), f)
        store(mixed, (row, first, segment, column), a)
        store(mixed, (row, first, segment, high), e)


@inner
def combine(row: int, head: int, places: Places, scratch: Scratch) -> None:
    """Put together what the segments of a row gave for a head."""
    head_dim = places.keys.shape[3]
    num_segments = segments(places.lengths[row])
    highest = np.float32(-np.inf)
    for segment in range(num_segments):
        highest = max(highest, scratch.highest[row, head, segment])
    whole = np.float32(0)
    for segment in range(num_segments):
        weight = np.float32(np.exp(scratch.highest[row, head, segment] - highest))
        scratch.highest[row, head, segment] = weight
        whole += weight * scratch.sums[row, head, segment]
    for column in range(0, head_dim, LANES):
        mixed = zeros()
        for segment in range(num_segments):
            weight = scratch.highest[row, head, segment] / whole
            mixed = fma(splat(weight), load(scratch.mixed, (row, head, segment, column)), mixed)
        store(scratch.attended, (row, head * head_dim + column), mixed)

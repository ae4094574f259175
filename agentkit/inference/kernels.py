"""One decode step as a compiled function: all layers and the head, for a few rows, shared by several threads.

Knows arrays only. Every number of the result is computed in one order, whatever the rows beside it and however
many threads take part: what a sequence gives does not depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit, types

from agentkit.inference.matrices import GROUP
from agentkit.inference.simd import (
    LANES,
    add,
    add_products,
    count,
    count_up,
    divide,
    exp,
    fma,
    load,
    multiply,
    prefetch,
    splat,
    store,
    total,
    zeros,
)

Function = TypeVar("Function", bound=Callable[..., Any])

SPINS_BEFORE_YIELD = 2_000
_yield_processor = types.ExternalFunction("sched_yield", types.int32())


class Weights(NamedTuple):
    """The matrices (layers, out, in) in float32, bfloat16 bits or int8, with scales where int8; norms in float32."""

    attention_norm: np.ndarray
    qkv: np.ndarray
    qkv_scales: np.ndarray
    output: np.ndarray
    output_scales: np.ndarray
    mlp_norm: np.ndarray
    gate_up: np.ndarray
    gate_up_scales: np.ndarray
    down: np.ndarray
    down_scales: np.ndarray
    norm: np.ndarray
    head: np.ndarray
    head_scales: np.ndarray
    eps: float


class Places(NamedTuple):
    """Where the rows stand: the slots (rows, positions) of all that each sees, itself the last of `lengths`.

    The angles are (rows, head_dim); `wanted` are the rows whose logits are.
    """

    keys: np.ndarray
    values: np.ndarray
    slots: np.ndarray
    lengths: np.ndarray
    cosines: np.ndarray
    signed_sines: np.ndarray
    wanted: np.ndarray


class Scratch(NamedTuple):
    """What the threads have in common; `normed` and `scores` have a place for each of them.

    Rows begin as embeddings in `hidden`. Of each part of the step, so many shares are `taken` and `done`; products
    have `shares`.
    """

    hidden: np.ndarray
    qkv: np.ndarray
    attended: np.ndarray
    activated: np.ndarray
    gate_up: np.ndarray
    logits: np.ndarray
    normed: np.ndarray
    scores: np.ndarray
    taken: np.ndarray
    done: np.ndarray
    shares: int


def compiled(function: Function) -> Function:
    """Compile a function at its first call, keep the result on disk where that is possible, release the GIL in it."""
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        wrapped: Function = njit(function, cache=True, **options)
    except RuntimeError:  # no folder to write to, neither beside this file nor the user's
        wrapped = njit(function, **options)
    return wrapped


@compiled
def decode_step(thread: int, weights: Weights, places: Places, scratch: Scratch) -> None:
    """Take part in a step until all of it is done, which may be without this thread.

    Every part of a layer is a number of shares, taken by whoever comes: a thread that the system keeps waiting
    holds up nobody, and one that comes late finds nothing left.
    """
    rows = scratch.hidden.shape[0]
    hidden_size = scratch.hidden.shape[1]
    num_kv_heads = places.keys.shape[1]
    num_heads = scratch.attended.shape[1] // places.keys.shape[3]
    normed = scratch.normed[thread]
    part = 0
    for layer in range(weights.qkv.shape[0]):
        for row in range(rows):
            _rms_norm(scratch.hidden, row, weights.attention_norm, layer, weights.eps, normed, row)
        share = _take(scratch, part, scratch.shares)
        while share >= 0:
            start, end = _span(scratch.qkv.shape[1], share, scratch.shares)
            scratch.qkv[:, start:end] = 0
            _add_product(weights.qkv, weights.qkv_scales, layer, normed, rows, scratch.qkv, start, end)
            share = _next(scratch, part, scratch.shares)
        part = _meet(scratch, part, scratch.shares)

        share = _take(scratch, part, rows * num_kv_heads)
        while share >= 0:
            _append(layer, share // num_kv_heads, share % num_kv_heads, places, scratch)
            share = _next(scratch, part, rows * num_kv_heads)
        part = _meet(scratch, part, rows * num_kv_heads)

        share = _take(scratch, part, rows * num_heads)
        while share >= 0:
            _attend(layer, share // num_heads, share % num_heads, places, scratch, scratch.scores[thread])
            share = _next(scratch, part, rows * num_heads)
        part = _meet(scratch, part, rows * num_heads)

        share = _take(scratch, part, scratch.shares)
        while share >= 0:
            start, end = _span(hidden_size, share, scratch.shares)
            scales = weights.output_scales
            _add_product(weights.output, scales, layer, scratch.attended, rows, scratch.hidden, start, end)
            share = _next(scratch, part, scratch.shares)
        part = _meet(scratch, part, scratch.shares)

        for row in range(rows):
            _rms_norm(scratch.hidden, row, weights.mlp_norm, layer, weights.eps, normed, row)
        share = _take(scratch, part, scratch.shares)
        while share >= 0:
            _activate(layer, share, weights, normed, scratch)
            share = _next(scratch, part, scratch.shares)
        part = _meet(scratch, part, scratch.shares)

        share = _take(scratch, part, scratch.shares)
        while share >= 0:
            start, end = _span(hidden_size, share, scratch.shares)
            _add_product(
                weights.down, weights.down_scales, layer, scratch.activated, rows, scratch.hidden, start, end
            )
            share = _next(scratch, part, scratch.shares)
        part = _meet(scratch, part, scratch.shares)

    wanted = places.wanted.shape[0]
    for index in range(wanted):
        _rms_norm(scratch.hidden, places.wanted[index], weights.norm, 0, weights.eps, normed, index)
    share = _take(scratch, part, scratch.shares)
    while share >= 0:
        start, end = _span(scratch.logits.shape[1], share, scratch.shares)
        scratch.logits[:, start:end] = 0
        _add_product(weights.head, weights.head_scales, 0, normed, wanted, scratch.logits, start, end)
        share = _next(scratch, part, scratch.shares)
    _meet(scratch, part, scratch.shares)


@njit
def _take(scratch: Scratch, part: int, shares: int) -> int:
    """Return the next share of a part that nobody has taken, or -1."""
    share = count_up(scratch.taken, (part,))
    return share if share < shares else -1


@njit
def _next(scratch: Scratch, part: int, shares: int) -> int:
    """Say that the share taken last is done, and take another."""
    count_up(scratch.done, (part,))
    return _take(scratch, part, shares)


@njit
def _meet(scratch: Scratch, part: int, shares: int) -> int:
    """Wait until all shares of a part are done; return the next part."""
    spins = 0
    while count(scratch.done, (part,)) < shares:
        spins += 1
        if spins > SPINS_BEFORE_YIELD:
            _yield_processor()
    return part + 1


@njit
def _span(size: int, share: int, shares: int) -> tuple[int, int]:
    return size * share // shares, size * (share + 1) // shares


@njit
def _rms_norm(
    source: np.ndarray, row: int, weight: np.ndarray, layer: int, eps: float, target: np.ndarray, place: int
) -> None:
    size = source.shape[1]
    squares = zeros()
    for column in range(0, size, LANES):
        value = load(source, (row, column))
        squares = fma(value, value, squares)
    scale = splat(np.float32(1.0 / np.sqrt(total(squares) / size + eps)))
    for column in range(0, size, LANES):
        scaled = multiply(load(source, (row, column)), scale)
        store(target, (place, column), multiply(scaled, load(weight, (layer, column))))


@njit
def _add_product(
    weights: np.ndarray,
    scales: np.ndarray,
    layer: int,
    rows: np.ndarray,
    num_rows: int,
    out: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Add to out[:num_rows, start:end] the products of rows and those of a layer's weights: two weights at a time."""
    for first in range(start, end, 2):
        second = min(first + 1, end - 1)  # of an odd number, the last is taken twice, and added once
        row = 0
        while row + 4 <= num_rows:
            _add_tile(weights, scales, layer, rows, row, out, first, second)
            row += 4
        while row < num_rows:
            one, other = zeros(), zeros()
            for column in range(0, rows.shape[1], GROUP):
                prefetch(weights, (layer, first, column))
                prefetch(weights, (layer, second, column))
                low, high = load(rows, (row, column)), load(rows, (row, column + LANES))
                one = add_products(one, weights, scales, (layer, first, column), low, high)
                other = add_products(other, weights, scales, (layer, second, column), low, high)
            out[row, first] += total(one)
            if second > first:
                out[row, second] += total(other)
            row += 1


@njit
def _add_tile(
    weights: np.ndarray,
    scales: np.ndarray,
    layer: int,
    rows: np.ndarray,
    row: int,
    out: np.ndarray,
    first: int,
    second: int,
) -> None:
    """Add the eight products of two weights and four rows, each read once."""
    a, b, c, d = zeros(), zeros(), zeros(), zeros()
    e, f, g, h = zeros(), zeros(), zeros(), zeros()
    for column in range(0, rows.shape[1], GROUP):
        one, other = (layer, first, column), (layer, second, column)
        prefetch(weights, one)
        prefetch(weights, other)
        low, high = load(rows, (row, column)), load(rows, (row, column + LANES))
        a = add_products(a, weights, scales, one, low, high)
        e = add_products(e, weights, scales, other, low, high)
        low, high = load(rows, (row + 1, column)), load(rows, (row + 1, column + LANES))
        b = add_products(b, weights, scales, one, low, high)
        f = add_products(f, weights, scales, other, low, high)
        low, high = load(rows, (row + 2, column)), load(rows, (row + 2, column + LANES))
        c = add_products(c, weights, scales, one, low, high)
        g = add_products(g, weights, scales, other, low, high)
        low, high = load(rows, (row + 3, column)), load(rows, (row + 3, column + LANES))
        d = add_products(d, weights, scales, one, low, high)
        h = add_products(h, weights, scales, other, low, high)
    out[row, first] += total(a)
    out[row + 1, first] += total(b)
    out[row + 2, first] += total(c)
    out[row + 3, first] += total(d)
    if second > first:
        out[row, second] += total(e)
        out[row + 1, second] += total(f)
        out[row + 2, second] += total(g)
        out[row + 3, second] += total(h)


@njit
def _append(layer: int, row: int, head: int, places: Places, scratch: Scratch) -> None:
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


@njit
def _rotate(heads: np.ndarray, row: int, start: int, places: Places) -> None:
    half = places.cosines.shape[1] // 2
    for column in range(0, half, LANES):
        left = load(heads, (row, start + column))
        right = load(heads, (row, start + half + column))
        turned = multiply(right, load(places.signed_sines, (row, column)))
        store(heads, (row, start + column), fma(left, load(places.cosines, (row, column)), turned))
        turned = multiply(left, load(places.signed_sines, (row, half + column)))
        cosines = load(places.cosines, (row, half + column))
        store(heads, (row, start + half + column), fma(right, cosines, turned))


@njit
def _attend(layer: int, row: int, head: int, places: Places, scratch: Scratch, scores: np.ndarray) -> None:
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


@njit
def _activate(layer: int, share: int, weights: Weights, normed: np.ndarray, scratch: Scratch) -> None:
    """Compute silu(gate) * up for a share of the intermediate numbers, in whole vectors."""
    rows, size = scratch.activated.shape
    start, end = _span(size // LANES, share, scratch.shares)
    start, end = start * LANES, end * LANES
    gate_up = scratch.gate_up
    for first in (0, size):
        low, high = first + start, first + end
        gate_up[:, low:high] = 0
        _add_product(weights.gate_up, weights.gate_up_scales, layer, normed, rows, gate_up, low, high)
    for row in range(rows):
        for column in range(start, end, LANES):
            gate, up = load(gate_up, (row, column)), load(gate_up, (row, size + column))
            one_plus = add(splat(np.float32(1.0)), exp(multiply(gate, splat(np.float32(-1.0)))))
            store(scratch.activated, (row, column), multiply(divide(gate, one_plus), up))

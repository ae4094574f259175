"""One decode step as compiled functions: all layers and the head, for a few rows, shared by a team of threads.

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
    arrive,
    arrived,
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
    """What the threads share; `normed` and `scores` have a part for each. Rows begin as embeddings in `hidden`."""

    hidden: np.ndarray
    qkv: np.ndarray
    attended: np.ndarray
    activated: np.ndarray
    gate_up: np.ndarray
    logits: np.ndarray
    normed: np.ndarray
    scores: np.ndarray
    counter: np.ndarray


def compiled(function: Function) -> Function:
    """Compile a function at its first call, keep the result on disk where that is possible, release the GIL in it."""
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        wrapped: Function = njit(function, cache=True, **options)
    except RuntimeError:  # no folder to write to, neither beside this file nor the user's
        wrapped = njit(function, **options)
    return wrapped


@compiled
def decode_step(thread: int, threads: int, weights: Weights, places: Places, scratch: Scratch) -> None:
    """Do one thread's share of a step; all threads of the team must call this at once, with a counter of zero."""
    rows = scratch.hidden.shape[0]
    intermediate = scratch.activated.shape[1]
    normed = scratch.normed[thread]
    met = 0
    for layer in range(weights.qkv.shape[0]):
        for row in range(rows):
            _rms_norm(scratch.hidden, row, weights.attention_norm, layer, weights.eps, normed, row)
        start, end = _share(scratch.qkv.shape[1], thread, threads)
        scratch.qkv[:, start:end] = 0
        _add_product(weights.qkv, weights.qkv_scales, layer, normed, rows, scratch.qkv, start, end)
        met = _meet(scratch.counter, met + threads)

        num_kv_heads = places.keys.shape[1]
        start, end = _share(rows * num_kv_heads, thread, threads)
        for item in range(start, end):
            _append(layer, item // num_kv_heads, item % num_kv_heads, places, scratch)
        met = _meet(scratch.counter, met + threads)

        num_heads = scratch.attended.shape[1] // places.keys.shape[3]
        start, end = _share(rows * num_heads, thread, threads)
        for item in range(start, end):
            _attend(layer, item // num_heads, item % num_heads, places, scratch, scratch.scores[thread])
        met = _meet(scratch.counter, met + threads)

        start, end = _share(scratch.hidden.shape[1], thread, threads)
        _add_product(
            weights.output, weights.output_scales, layer, scratch.attended, rows, scratch.hidden, start, end
        )
        met = _meet(scratch.counter, met + threads)

        for row in range(rows):
            _rms_norm(scratch.hidden, row, weights.mlp_norm, layer, weights.eps, normed, row)
        start, end = _share(intermediate // LANES, thread, threads)
        start, end = start * LANES, end * LANES
        for first in (0, intermediate):
            scratch.gate_up[:, first + start : first + end] = 0
            _add_product(
                weights.gate_up,
                weights.gate_up_scales,
                layer,
                normed,
                rows,
                scratch.gate_up,
                first + start,
                first + end,
            )
        _activate(scratch.gate_up, scratch.activated, start, end)
        met = _meet(scratch.counter, met + threads)

        start, end = _share(scratch.hidden.shape[1], thread, threads)
        _add_product(
            weights.down, weights.down_scales, layer, scratch.activated, rows, scratch.hidden, start, end
        )
        met = _meet(scratch.counter, met + threads)

    for index in range(places.wanted.shape[0]):
        _rms_norm(scratch.hidden, places.wanted[index], weights.norm, 0, weights.eps, normed, index)
    start, end = _share(scratch.logits.shape[1], thread, threads)
    scratch.logits[:, start:end] = 0
    _add_product(
        weights.head, weights.head_scales, 0, normed, places.wanted.shape[0], scratch.logits, start, end
    )


@njit
def _share(count: int, thread: int, threads: int) -> tuple[int, int]:
    return count * thread // threads, count * (thread + 1) // threads


@njit
def _meet(counter: np.ndarray, everybody: int) -> int:
    """Wait until the count of arrivals says that every thread is here."""
    arrive(counter)
    spins = 0
    while arrived(counter) < everybody:
        spins += 1
        if spins > SPINS_BEFORE_YIELD:
            _yield_processor()
    return everybody


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
    count: int,
    out: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Add to out[:count, start:end] the products of rows and those of a layer's weights: two weights at a time."""
    for first in range(start, end, 2):
        second = min(first + 1, end - 1)  # of an odd number, the last is taken twice, and added once
        row = 0
        while row + 4 <= count:
            _add_tile(weights, scales, layer, rows, row, out, first, second)
            row += 4
        while row < count:
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
    count = places.lengths[row]
    query = head * head_dim
    _rotate(scratch.qkv, row, query, places)
    scale = np.float32(head_dim**-0.5)

    highest = np.float32(-np.inf)
    for position in range(count):
        slot = places.slots[row, position]
        products = zeros()
        for column in range(0, head_dim, LANES):
            key = load(places.keys, (layer, kv_head, slot, column))
            products = fma(key, load(scratch.qkv, (row, query + column)), products)
        score = total(products) * scale
        scores[position] = score
        highest = max(highest, score)

    padded = (count + LANES - 1) // LANES * LANES
    scores[count:padded] = -np.inf
    sums = zeros()
    for position in range(0, padded, LANES):
        weight = exp(add(load(scores, (position,)), splat(-highest)))
        store(scores, (position,), weight)
        sums = add(sums, weight)
    share = splat(np.float32(1.0) / total(sums))

    for column in range(0, head_dim, LANES):
        mixed = zeros()
        for position in range(count):
            value = load(places.values, (layer, kv_head, places.slots[row, position], column))
            mixed = fma(splat(scores[position]), value, mixed)
        store(scratch.attended, (row, query + column), multiply(mixed, share))


@njit
def _activate(gate_up: np.ndarray, activated: np.ndarray, start: int, end: int) -> None:
    """Compute silu(gate) * up."""
    for row in range(gate_up.shape[0]):
        for column in range(start, end, LANES):
            gate = load(gate_up, (row, column))
            up = load(gate_up, (row, activated.shape[1] + column))
            one_plus = add(splat(np.float32(1.0)), exp(multiply(gate, splat(np.float32(-1.0)))))
            store(activated, (row, column), multiply(divide(gate, one_plus), up))

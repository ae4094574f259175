"""Compiled products of a few rows with weights, the norm before them and the activation between. Knows no threads.

Every sum is added up in one order, whatever rows stand beside it.
"""

from __future__ import annotations

import numpy as np

from agentkit.inference.kernel_arrays import Scratch, Weights
from agentkit.inference.quantized import GROUP
from agentkit.inference.simd import (
    LANES,
    PREFETCHED_BYTES,
    add,
    add_products,
    divide,
    exp,
    fma,
    inner,
    load,
    multiply,
    prefetch,
    splat,
    store,
    total,
    zeros,
)


@inner
def span(size: int, share: int, shares: int) -> tuple[int, int]:
    """Return where a share of so many numbers starts and ends."""
    return size * share // shares, size * (share + 1) // shares


@inner
def rms_norm(
    source: np.ndarray, row: int, weight: np.ndarray, layer: int, eps: float, target: np.ndarray, place: int
) -> None:
    """Write a row of `source`, scaled to a root mean square of one and by a layer's weight, to a row of `target`."""
    size = source.shape[1]
    squares = zeros()
    for column in range(0, size, LANES):
        value = load(source, (row, column))
        squares = fma(value, value, squares)
    scale = splat(np.float32(1.0 / np.sqrt(total(squares) / size + eps)))
    for column in range(0, size, LANES):
        scaled = multiply(load(source, (row, column)), scale)
        store(target, (place, column), multiply(scaled, load(weight, (layer, column))))


@inner
def add_product(
    weights: np.ndarray,
    scales: np.ndarray,
    layer: int,
    rows: np.ndarray,
    num_rows: int,
    out: np.ndarray,
    start: int,
    end: int,
) -> None:
    """Add to out[:num_rows, start:end] the products of `rows` with rows `start` to `end` of a layer's weights.

    `weights` (layers, out, in) are read two of their rows at a time, for up to four of `rows` (rows, in).
    """
    for first in range(start, end, 2):
        second = min(first + 1, end - 1)  # of an odd number, the last is taken twice, and added once
        row = 0
        while row + 4 <= num_rows:
            _add_tile(weights, scales, layer, rows, row, out, first, second)
            row += 4
        while row < num_rows:
            one, other = zeros(), zeros()
            for column in range(0, rows.shape[1], GROUP):
                prefetch(weights, (layer, first, column), PREFETCHED_BYTES)
                prefetch(weights, (layer, second, column), PREFETCHED_BYTES)
                low, high = load(rows, (row, column)), load(rows, (row, column + LANES))
                one = add_products(one, weights, scales, (layer, first, column), low, high)
                other = add_products(other, weights, scales, (layer, second, column), low, high)
            out[row, first] += total(one)
            if second > first:
                out[row, second] += total(other)
            row += 1


@inner
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
    """Add the eight products of two rows of weights and four rows, each read once."""
    a, b, c, d = zeros(), zeros(), zeros(), zeros()
    e, f, g, h = zeros(), zeros(), zeros(), zeros()
    for column in range(0, rows.shape[1], GROUP):
        one, other = (layer, first, column), (layer, second, column)
        prefetch(weights, one, PREFETCHED_BYTES)
        prefetch(weights, other, PREFETCHED_BYTES)
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


@inner
def activate(layer: int, share: int, weights: Weights, normed: np.ndarray, scratch: Scratch) -> None:
    """Compute silu(gate) * up of the rows `normed` for a share of the intermediate numbers, in whole vectors."""
    rows, size = scratch.activated.shape
    start, end = span(size // LANES, share, scratch.shares)
    start, end = start * LANES, end * LANES
    gate_up = scratch.gate_up
    for first in (0, size):
        low, high = first + start, first + end
        gate_up[:, low:high] = 0
        add_product(weights.gate_up, weights.gate_up_scales, layer, normed, rows, gate_up, low, high)
    for row in range(rows):
        for column in range(start, end, LANES):
            gate, up = load(gate_up, (row, column)), load(gate_up, (row, size + column))
            one_plus = add(splat(np.float32(1.0)), exp(multiply(gate, splat(np.float32(-1.0)))))
            store(scratch.activated, (row, column), multiply(divide(gate, one_plus), up))

"""One decode step as a compiled function: all layers and the head, for a few rows, shared by several threads.

Knows arrays only. Every number of the result is computed in one order, whatever the rows beside it and however
many threads take part: what a sequence gives does not depend on its company.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from importlib.resources import files
from typing import Any, TypeVar

from numba import njit, typeof, types

from agentkit.inference.kernel_arrays import Places, Scratch, Weights
from agentkit.inference.kernel_attention import HEADS_AT_ONCE, SEGMENT, append, attend, combine
from agentkit.inference.kernel_products import activate, add_product, rms_norm, span
from agentkit.inference.simd import count, count_up, inner

if os.name != "posix":
    raise ImportError("compiled steps need sched_yield, which is a function of POSIX systems")

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

__all__ = [
    "HEADS_AT_ONCE",
    "PARTS_OF_A_LAYER",
    "SEGMENT",
    "Places",
    "Scratch",
    "Weights",
    "compiled_for",
    "decode_step",
]

PARTS_OF_A_LAYER = 7

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}
_SPINS_BEFORE_YIELD = 2_000
_SOURCES = ("kernels", "kernel_arrays", "kernel_attention", "kernel_products", "quantized", "simd")
_yield_processor = types.ExternalFunction("sched_yield", types.int32())


def compiled(function: Function) -> Function:
    """Compile a function at its first call, without the GIL, and keep the result on disk where that is possible.

    numba keeps it in the `__pycache__` beside the function's file or, where that cannot be written, in the user's
    cache folder; `NUMBA_CACHE_DIR` names another. With none of them, each process compiles it anew.
    """
    try:
        wrapped: Function = njit(function, cache=True, **_OPTIONS)
    except RuntimeError:  # there is no folder to write to
        wrapped = njit(function, **_OPTIONS)
    return wrapped


def compiled_for(function: Any, arguments: tuple[Any, ...]) -> Any:
    """Return a `compiled` function once it is compiled for arguments of these types, or found on disk; run nothing.

    Where what is on disk cannot be read or written, the result is this process's own.

    Raises:
        Exception: of numba or LLVM, if this machine cannot.
    """
    signature = tuple(typeof(argument) for argument in arguments)
    try:
        function.compile(signature)
    except Exception as error:  # noqa: BLE001  # what a damaged file raises may be anything
        own: Any = njit(function.py_func, **_OPTIONS)
        own.compile(signature)
        logger.warning(
            "compiled functions in %s cannot be used (%s); delete that folder, or each process compiles its own",
            function.stats.cache_path,
            type(error).__name__,
        )
        return own
    return function


@inner
def _take_part(thread: int, weights: Weights, places: Places, scratch: Scratch) -> None:
    rows = scratch.hidden.shape[0]
    hidden_size = scratch.hidden.shape[1]
    num_kv_heads = places.keys.shape[1]
    num_heads = scratch.attended.shape[1] // places.keys.shape[3]
    num_segments = scratch.highest.shape[2]
    normed = scratch.normed[thread]
    part = 0
    for layer in range(weights.qkv.shape[0]):
        for row in range(rows):
            rms_norm(scratch.hidden, row, weights.attention_norm, layer, weights.eps, normed, row)
        share = _take(scratch, part, scratch.shares)
        while share >= 0:
            start, end = span(scratch.qkv.shape[1], share, scratch.shares)
            scratch.qkv[:, start:end] = 0
            add_product(weights.qkv, weights.qkv_scales, layer, normed, rows, scratch.qkv, start, end)
            share = _next(scratch, part, scratch.shares)
        part = _meet(scratch, part, scratch.shares)

        share = _take(scratch, part, rows * num_kv_heads)
        while share >= 0:
            append(layer, share // num_kv_heads, share % num_kv_heads, places, scratch)
            share = _next(scratch, part, rows * num_kv_heads)
        part = _meet(scratch, part, rows * num_kv_heads)

        share = _take(scratch, part, rows * num_kv_heads * num_segments)
        while share >= 0:
            head, segment = share // num_segments, share % num_segments
            row, kv_head = head // num_kv_heads, head % num_kv_heads
            attend(layer, row, kv_head, segment, places, scratch, scratch.scores[thread])
            share = _next(scratch, part, rows * num_kv_heads * num_segments)
        part = _meet(scratch, part, rows * num_kv_heads * num_segments)

        share = _take(scratch, part, rows * num_heads)
        while share >= 0:
            combine(share // num_heads, share % num_heads, places, scratch)
            share = _next(scratch, part, rows * num_heads)
        part = _meet(scratch, part, rows * num_heads)

        share = _take(scratch, part, scratch.shares)
        while share >= 0:
            start, end = span(hidden_size, share, scratch.shares)
            scales = weights.output_scales
            add_product(weights.output, scales, layer, scratch.attended, rows, scratch.hidden, start, end)
            share = _next(scratch, part, scratch.shares)
        part = _meet(scratch, part, scratch.shares)

        for row in range(rows):
            rms_norm(scratch.hidden, row, weights.mlp_norm, layer, weights.eps, normed, row)
        share = _take(scratch, part, scratch.shares)
        while share >= 0:
            activate(layer, share, weights, normed, scratch)
            share = _next(scratch, part, scratch.shares)
        part = _meet(scratch, part, scratch.shares)

        share = _take(scratch, part, scratch.shares)
        while share >= 0:
            start, end = span(hidden_size, share, scratch.shares)
            scales = weights.down_scales
            add_product(weights.down, scales, layer, scratch.activated, rows, scratch.hidden, start, end)
            share = _next(scratch, part, scratch.shares)
        part = _meet(scratch, part, scratch.shares)

    wanted = places.wanted.shape[0]
    for index in range(wanted):
        rms_norm(scratch.hidden, places.wanted[index], weights.norm, 0, weights.eps, normed, index)
    share = _take(scratch, part, scratch.shares)
    while share >= 0:
        start, end = span(scratch.logits.shape[1], share, scratch.shares)
        scratch.logits[:, start:end] = 0
        add_product(weights.head, weights.head_scales, 0, normed, wanted, scratch.logits, start, end)
        share = _next(scratch, part, scratch.shares)
    _meet(scratch, part, scratch.shares)


@inner
def _take(scratch: Scratch, part: int, shares: int) -> int:
    """Return the next share of a part that nobody has taken, or -1."""
    share: int = count_up(scratch.taken, (part,))
    return share if share < shares else -1


@inner
def _next(scratch: Scratch, part: int, shares: int) -> int:
    """Say that the share taken last is done, and take another."""
    count_up(scratch.done, (part,))
    share: int = _take(scratch, part, shares)
    return share


@inner
def _meet(scratch: Scratch, part: int, shares: int) -> int:
    """Wait until all shares of a part are done; return the next part."""
    spins = 0
    while count(scratch.done, (part,)) < shares:
        spins += 1
        if spins > _SPINS_BEFORE_YIELD:
            _yield_processor()
    return part + 1


def _entry(sources: int) -> Callable[[int, Weights, Places, Scratch], None]:
    @compiled
    def decode_step(thread: int, weights: Weights, places: Places, scratch: Scratch) -> None:
        """Take part in a step until all of it is done, which may be without this thread.

        Every part of a layer is a number of shares, taken by whoever comes: a thread that the system keeps waiting
        holds up nobody, and one that comes late finds nothing left. `thread` tells those of a step apart, from 0.
        """
        _ = sources  # what was kept on disk is used again where this is the same
        _take_part(thread, weights, places, scratch)

    return decode_step


def _digest() -> int:
    """Return a number of all files that the compiled step comes from: numba watches only this one."""
    folder = files("agentkit.inference")
    sources = b"".join((folder / f"{name}.py").read_bytes() for name in _SOURCES)
    return int.from_bytes(hashlib.sha256(sources).digest()[:7])


decode_step: Any = _entry(_digest())

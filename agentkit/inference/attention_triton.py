"""Paged attention of decode steps in Triton: each sequence is read in splits side by side, then they are joined.

Importing this module needs Triton, which is imported nowhere else: whoever runs on a GPU imports it when it does.
"""

# A kernel is no Python function: its arguments are pointers, numbers and, in capitals, constants of the compiler.
# ruff: noqa: ANN001, ANN202, N803
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, no-untyped-def"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

BLOCK_TOKENS = 64
"""So many positions are read at once: 16 KiB of keys of 128 bf16 numbers."""

LEAST_DOT_ROWS = 16
"""The matrix units take no fewer rows; a smaller group of query heads is padded to it."""

PROGRAMS_PER_PROCESSOR = 4
"""So many programs keep enough reads under way on one multiprocessor."""

MOST_SPLITS = 64
"""Joining more would cost more than reading in longer parts."""

_OPERANDS = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def triton_paged_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    pages: torch.Tensor,
    lengths: torch.Tensor,
    *,
    page_tokens: int,
    splits: int,
) -> torch.Tensor:
    """Implement `PagedAttention`; each sequence is read by `splits` programs per key head."""
    num_rows, num_heads, head_dim = queries.shape
    num_kv_heads = keys.shape[0]
    group = num_heads // num_kv_heads
    partial = queries.new_empty((num_rows, num_heads, splits, head_dim), dtype=torch.float32)
    partial_lse = queries.new_empty((num_rows, num_heads, splits), dtype=torch.float32)
    attended = queries.new_empty((num_rows, num_heads * head_dim))
    _attend_split[(num_rows, num_kv_heads, splits)](
        queries,
        keys,
        values,
        pages,
        lengths,
        partial,
        partial_lse,
        head_dim**-0.5 * math.log2(math.e),
        *queries.stride()[:2],
        *keys.stride()[:2],
        pages.stride(0),
        GROUP=group,
        GROUP_BLOCK=max(LEAST_DOT_ROWS, triton.next_power_of_2(group)),
        HEAD_DIM=head_dim,
        HEAD_BLOCK=max(LEAST_DOT_ROWS, triton.next_power_of_2(head_dim)),
        PAGE_TOKENS=page_tokens,
        BLOCK=BLOCK_TOKENS,
        SPLITS=splits,
        OPERANDS=operands(keys.dtype),
        num_warps=4,
        num_stages=3,
    )
    _join_splits[(num_rows, num_heads)](
        partial,
        partial_lse,
        attended,
        HEAD_DIM=head_dim,
        HEAD_BLOCK=triton.next_power_of_2(head_dim),
        SPLITS=splits,
        SPLIT_BLOCK=triton.next_power_of_2(splits),
        num_warps=4,
    )
    return attended


def splits_for(sequence_heads: int, *, processors: int) -> int:
    """Return into how many splits each sequence goes, of which so many times key heads are read at once.

    That is decided before the lengths are known: a split takes its share of what is there, and has nothing to do
    where a sequence has fewer blocks than splits.
    """
    wanted = -(-processors * PROGRAMS_PER_PROCESSOR // sequence_heads)
    return min(wanted, MOST_SPLITS)


def operands(dtype: torch.dtype) -> tl.dtype:
    """Return the type that numbers of this one are multiplied in."""
    # Triton's interpreter multiplies the bit patterns of bf16 numbers.
    if triton.knobs.runtime.interpret and dtype == torch.bfloat16:
        return tl.float32
    return _OPERANDS[dtype]


@triton.jit
def _attend_split(
    queries,  # (rows, num_heads, head_dim)
    keys,  # (num_kv_heads, slots, head_dim), as values
    values,
    pages,  # (rows, most pages)
    lengths,  # (rows,)
    partial,  # (rows, num_heads, splits, head_dim)
    partial_lse,  # (rows, num_heads, splits), to the base 2; minus infinity where the split is empty
    scale,  # of the scores, so that 2 to their power is meant
    query_row_stride,
    query_head_stride,
    kv_head_stride,
    slot_stride,
    table_stride,
    GROUP: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    PAGE_TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    OPERANDS: tl.constexpr,
):
    """Let the query heads of one key head attend to one split of one sequence."""
    row = tl.program_id(0)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    length = tl.load(lengths + row)
    share = tl.cdiv(tl.cdiv(length, BLOCK), SPLITS) * BLOCK
    start = split * share
    end = tl.minimum(start + share, length)

    members = tl.arange(0, GROUP_BLOCK)
    dims = tl.arange(0, HEAD_BLOCK)
    heads = kv_head * GROUP + members
    real = (members < GROUP)[:, None] & (dims < HEAD_DIM)[None, :]
    query_places = row * query_row_stride + heads[:, None] * query_head_stride + dims[None, :]
    query = tl.load(queries + query_places, mask=real, other=0.0).to(OPERANDS)

    highest = tl.full([GROUP_BLOCK], float("-inf"), tl.float32)
    mass = tl.zeros([GROUP_BLOCK], tl.float32)
    attended = tl.zeros([GROUP_BLOCK, HEAD_BLOCK], tl.float32)
    for first in tl.range(start, end, BLOCK):
        positions = first + tl.arange(0, BLOCK)
        inside = positions < end
        page = tl.load(pages + row * table_stride + positions // PAGE_TOKENS, mask=inside, other=0)
        slots = page.to(tl.int64) * PAGE_TOKENS + positions % PAGE_TOKENS
        # A pool may have more numbers than 32 bits can count.
        places = kv_head.to(tl.int64) * kv_head_stride + slots[:, None] * slot_stride + dims[None, :]
        held = inside[:, None] & (dims < HEAD_DIM)[None, :]
        key = tl.load(keys + places, mask=held, other=0.0).to(OPERANDS)
        value = tl.load(values + places, mask=held, other=0.0).to(OPERANDS)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        scores = tl.where(inside[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        weights = tl.exp2(scores - higher[:, None])
        kept = tl.exp2(highest - higher)
        mass = mass * kept + tl.sum(weights, axis=1)
        attended = attended * kept[:, None]
        attended += tl.dot(weights.to(OPERANDS), value, input_precision="ieee")
        highest = higher

    found = mass > 0.0
    lse = tl.where(found, highest + tl.log2(tl.where(found, mass, 1.0)), float("-inf"))
    attended = attended / tl.where(found, mass, 1.0)[:, None]
    num_heads = tl.num_programs(1) * GROUP
    outputs = (row * num_heads + heads).to(tl.int64) * SPLITS + split
    tl.store(partial + outputs[:, None] * HEAD_DIM + dims[None, :], attended, mask=real)
    tl.store(partial_lse + outputs, lse, mask=members < GROUP)


@triton.jit
def _join_splits(
    partial,  # (rows, num_heads, splits, head_dim)
    partial_lse,  # (rows, num_heads, splits)
    attended,  # (rows, num_heads, head_dim)
    HEAD_DIM: tl.constexpr,
    HEAD_BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    SPLIT_BLOCK: tl.constexpr,
):
    """Weigh the splits of one head of one sequence by their mass."""
    head = (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)).to(tl.int64)
    splits = tl.arange(0, SPLIT_BLOCK)
    dims = tl.arange(0, HEAD_BLOCK)
    real = (splits < SPLITS)[:, None] & (dims < HEAD_DIM)[None, :]
    lse = tl.load(partial_lse + head * SPLITS + splits, mask=splits < SPLITS, other=float("-inf"))
    parts = tl.load(
        partial + (head * SPLITS + splits[:, None]) * HEAD_DIM + dims[None, :], mask=real, other=0.0
    )
    highest = tl.max(lse, axis=0)
    # A row without a position has no highest; its parts are zero, and so is their sum.
    weights = tl.exp2(lse - tl.where(highest == float("-inf"), 0.0, highest))
    mass = tl.sum(weights, axis=0)
    joined = tl.sum(parts * weights[:, None], axis=0) / tl.where(mass == 0.0, 1.0, mass)
    tl.store(attended + head * HEAD_DIM + dims, joined.to(attended.dtype.element_ty), mask=dims < HEAD_DIM)

"""Products of a few rows with int8 or int4 weights in Triton: each byte of the weights is read once.

Importing this module needs Triton: whoever runs on a GPU imports it when it does.
"""

# A kernel is no Python function: its arguments are pointers, numbers and, in capitals, constants of the compiler.
# ruff: noqa: ANN001, ANN202, N803, N806
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator, no-untyped-def"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from agentkit.inference.attention_triton import LEAST_DOT_ROWS, operands
from agentkit.inference.quantized import GROUP, INT4

BLOCK_BYTES = 128
"""So many bytes of each row of the weights are read at once: a line of the cache."""

LAUNCH = {"num_warps": 4, "num_stages": 4}
"""Four blocks of a program's weights are on their way at once."""


def triton_product(rows: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return rows (rows, in) @ weights.T (in, out), summed in fp32, in the dtype of the rows.

    The weights are int8 or int4 with their scales, of one layer, and stand for what `dequantize` makes of them in the
    dtype of the rows. Never waits for the device; what is launched depends on shapes alone.
    """
    num_rows, num_in = rows.shape
    num_out = len(values)
    chosen = constants(num_rows, num_in, packed=values.dtype == INT4, dtype=rows.dtype)
    products = rows.new_empty((num_rows, num_out))
    _multiply[(triton.cdiv(num_out, chosen["OUT_BLOCK"]),)](
        rows, values, scales, products, num_rows, num_out, rows.stride(0), **chosen, **LAUNCH
    )
    return products


def constants(num_rows: int, num_in: int, *, packed: bool, dtype: torch.dtype) -> dict[str, Any]:
    """Return what the kernel is compiled for."""
    group_bytes = GROUP // 2 if packed else GROUP
    return {
        "NUM_BYTES": num_in // GROUP * group_bytes,
        "NUM_GROUPS": num_in // GROUP,
        "PACKED": packed,
        "GROUP": GROUP,
        "GROUP_BYTES": group_bytes,
        "GROUPS_BLOCK": BLOCK_BYTES // group_bytes,
        "ROW_BLOCK": max(LEAST_DOT_ROWS, triton.next_power_of_2(num_rows)),
        # Every program reads all of the rows: the more they are, the more of the weights it should take.
        "OUT_BLOCK": 32 if num_rows <= LEAST_DOT_ROWS else 64,
        "OPERANDS": operands(dtype),
    }


@triton.jit
def _multiply(
    rows,  # (num_rows, in)
    values,  # (num_out, bytes)
    scales,  # (num_out, groups), or (num_out, groups, 2) where packed
    products,  # (num_rows, num_out)
    num_rows,
    num_out,
    row_stride,
    NUM_BYTES: tl.constexpr,
    NUM_GROUPS: tl.constexpr,
    PACKED: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_BYTES: tl.constexpr,
    GROUPS_BLOCK: tl.constexpr,
    ROW_BLOCK: tl.constexpr,
    OUT_BLOCK: tl.constexpr,
    OPERANDS: tl.constexpr,
):
    """Multiply all rows by one block of the rows of the weights."""
    BLOCK: tl.constexpr = GROUPS_BLOCK * GROUP_BYTES
    outs = tl.program_id(0) * OUT_BLOCK + tl.arange(0, OUT_BLOCK)
    real_outs = (outs < num_out)[:, None]
    # A head may have more bytes than 32 bits can count.
    lines = outs.to(tl.int64)[:, None]
    members = tl.arange(0, ROW_BLOCK)
    real_rows = (members < num_rows)[:, None]
    in_block = tl.arange(0, BLOCK)
    groups_in_block = tl.arange(0, GROUPS_BLOCK)

    sums = tl.zeros([OUT_BLOCK, ROW_BLOCK], tl.float32)
    for block in tl.range(0, tl.cdiv(NUM_GROUPS, GROUPS_BLOCK)):
        places = block * BLOCK + in_block
        inside = places < NUM_BYTES
        groups = block * GROUPS_BLOCK + groups_in_block
        held = real_outs & (groups < NUM_GROUPS)[None, :]
        kept = tl.load(
            values + lines * NUM_BYTES + places[None, :], mask=real_outs & inside[None, :], other=0
        )
        # Where the first weight of a byte lies in a row.
        columns = (places // GROUP_BYTES) * GROUP + places % GROUP_BYTES
        inputs = rows + members[:, None] * row_stride + columns[None, :]
        wanted = real_rows & inside[None, :]
        first = tl.load(inputs, mask=wanted, other=0.0).to(OPERANDS)
        if PACKED:
            pairs = scales + (lines * NUM_GROUPS + groups[None, :]) * 2
            steps = tl.load(pairs, mask=held, other=0.0).to(tl.float32)[:, :, None]
            least = tl.load(pairs + 1, mask=held, other=0.0).to(tl.float32)[:, :, None]
            second = tl.load(inputs + GROUP_BYTES, mask=wanted, other=0.0).to(OPERANDS)
            grouped = tl.reshape(kept, [OUT_BLOCK, GROUPS_BLOCK, GROUP_BYTES])
            lower = (grouped & 15).to(tl.float32) * steps + least
            upper = (grouped >> 4).to(tl.float32) * steps + least
            lower = tl.reshape(lower, [OUT_BLOCK, BLOCK]).to(first.dtype)
            upper = tl.reshape(upper, [OUT_BLOCK, BLOCK]).to(first.dtype)
            sums = tl.dot(lower, tl.trans(first), sums, input_precision="ieee")
            sums = tl.dot(upper, tl.trans(second), sums, input_precision="ieee")
        else:
            steps = tl.load(scales + lines * NUM_GROUPS + groups[None, :], mask=held, other=0.0)
            grouped = tl.reshape(kept, [OUT_BLOCK, GROUPS_BLOCK, GROUP_BYTES]).to(tl.float32)
            weights = tl.reshape(grouped * steps.to(tl.float32)[:, :, None], [OUT_BLOCK, BLOCK])
            sums = tl.dot(weights.to(first.dtype), tl.trans(first), sums, input_precision="ieee")

    places = products + members[None, :].to(tl.int64) * num_out + outs[:, None]
    tl.store(places, sums.to(products.dtype.element_ty), mask=real_outs & (members < num_rows)[None, :])

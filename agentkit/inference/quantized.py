"""Weights in groups of 32 neighbours of a row: int8 with a scale for each group, or int4 with a step and a least level.

int4 are uint8, two in a byte: byte `j` of a group's 16 holds weight `j` in its lower half and weight `j + 16` in its
upper one, so that whoever reads bytes in their order has two runs of weights in theirs.
"""

from __future__ import annotations

from itertools import product

import torch

GROUP = 32
"""How many neighbours are a group: as many as in GGUF's Q8_0 and Q4_1, whose weights come through nearly unchanged."""

INT8, INT4 = torch.int8, torch.uint8
QUANTIZED = (INT8, INT4)

_LARGEST_INT8 = 127
_LARGEST_INT4 = 15
_HALF = GROUP // 2
_INT4_SCALES = torch.bfloat16
_CUTS = (
    0.0,
    0.03,
    0.06,
    0.1,
)  # of a group's range, at either end: its outermost weights give way to the others


def new_quantized(
    shape: tuple[int, int, int], dtype: torch.dtype, *, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return room for so many weights (layers, out, in) on the device of a tensor, and for their scales.

    Those of int8 are (layers, out, in / 32), of the tensor's type: fp32 beside fp32, bfloat16 beside bfloat16. int4
    have values (layers, out, in / 2) and scales (layers, out, in / 32, 2) in bfloat16: steps and least levels.
    """
    layers, num_out, num_in = shape
    groups = (layers, num_out, num_in // GROUP)
    if dtype == INT8:
        return like.new_empty(shape, dtype=INT8), like.new_empty(groups)
    values = like.new_empty((layers, num_out, num_in // 2), dtype=INT4)
    return values, like.new_empty((*groups, 2), dtype=_INT4_SCALES)


def quantize(matrix: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> None:
    """Write a matrix (out, in) into such room; its weights go to levels that are rounded as their scales are."""
    groups = matrix.float().reshape(len(matrix), -1, GROUP)
    if values.dtype == INT8:
        _quantize_int8(groups, values, scales)
    else:
        _quantize_int4(groups, values, scales)


def dequantize(values: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the matrix (out, in) that values and their scales stand for."""
    if values.dtype == INT8:
        groups = values.reshape(len(values), -1, GROUP)
        return (groups * scales.to(dtype)[..., None]).flatten(-2)
    halves = values.reshape(len(values), -1, _HALF)
    levels = torch.cat((halves & _LARGEST_INT4, halves >> 4), dim=-1).float()
    steps, least = scales.float().chunk(2, dim=-1)
    return levels.mul_(steps).add_(least).flatten(-2).to(dtype)


def _quantize_int8(groups: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> None:
    """Make the largest weight of each group 127."""
    scales.copy_(groups.abs().amax(dim=-1).div_(_LARGEST_INT8))
    divisors = scales.masked_fill(scales == 0, 1.0).float()  # a group of zeros stays one
    levels = (groups / divisors[..., None]).round_().clamp_(-_LARGEST_INT8, _LARGEST_INT8)
    values.copy_(levels.flatten(-2))


def _quantize_int4(groups: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> None:
    """Give each group, of a few ranges for its 16 levels, the one with the least squared error."""
    least, largest = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
    extent = largest - least
    best = torch.full_like(least, torch.inf)
    levels = torch.zeros_like(groups, dtype=INT4)
    for low, high in product(_CUTS, _CUTS):
        start = (least + low * extent).to(_INT4_SCALES)
        step = ((largest - high * extent - start) / _LARGEST_INT4).to(_INT4_SCALES)
        divisor = step.masked_fill(step == 0, 1.0).float()  # a group of equals has no steps
        tried = ((groups - start) / divisor).round_().clamp_(0, _LARGEST_INT4)
        error = (tried * step + start - groups).square_().sum(dim=-1, keepdim=True)
        better = (error < best) | best.isinf()  # what is no number stays none
        best = torch.where(better, error, best)
        levels = torch.where(better, tried.to(INT4), levels)
        scales.copy_(torch.where(better, torch.cat((step, start), dim=-1), scales))
    lower, upper = levels.chunk(2, dim=-1)
    values.copy_((lower | upper << 4).flatten(-2))

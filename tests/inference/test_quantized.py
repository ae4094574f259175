"""Quantised weights are as near to the exact ones as their levels are to each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.inference.quantized import GROUP, INT4, INT8, dequantize, new_quantized, quantize

DTYPES = [torch.float32, torch.bfloat16]


@st.composite
def matrices(draw: st.DrawFn) -> torch.Tensor:
    """Return a matrix of some groups, of one size, that lie somewhere."""
    shape = draw(st.integers(1, 5)), GROUP * draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    numbers = torch.randn(shape, generator=generator) + draw(st.sampled_from([0.0, 0.5, -3.0]))
    return (numbers * draw(st.floats(1e-6, 1e6))).to(draw(st.sampled_from(DTYPES)))


def quantized(matrix: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    values, scales = new_quantized((1, *matrix.shape), dtype, like=matrix)
    quantize(matrix, values[0], scales[0])
    return values[0], scales[0]


def errors(matrix: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return how far off each weight is, by groups."""
    return (dequantize(values, scales, torch.float32) - matrix.float()).abs().view(len(matrix), -1, GROUP)


@given(matrix=matrices())
@settings(max_examples=60, deadline=None)
def test_no_int8_weight_is_further_off_than_half_a_step_of_its_group(matrix: torch.Tensor) -> None:
    values, scales = quantized(matrix, INT8)

    assert (errors(matrix, values, scales) <= scales.float()[..., None] * 0.5001).all()
    largest = matrix.float().view(len(matrix), -1, GROUP).abs().amax(-1)
    assert scales.dtype == matrix.dtype
    torch.testing.assert_close(scales.float() * 127, largest, rtol=2**-8, atol=0)


@given(matrix=matrices())
@settings(max_examples=60, deadline=None)
def test_int4_groups_are_no_further_off_than_with_16_levels_between_their_outermost_weights(
    matrix: torch.Tensor,
) -> None:
    error = errors(matrix, *quantized(matrix, INT4)).square().sum(-1)

    groups = matrix.float().view(len(matrix), -1, GROUP)
    least, step = groups.amin(-1, keepdim=True), (groups.amax(-1) - groups.amin(-1))[..., None] / 15
    plain = (((groups - least) / step).round() * step + least - groups).square().sum(-1)
    # The plain levels are exact, ours are bfloat16: off by 2 ** -9 of the least one and of 15 steps, at most.
    rounding = GROUP * ((least.abs() + 15 * step)[..., 0] * 2**-8).square()
    assert (error.sqrt() <= plain.sqrt() + rounding.sqrt()).all()


@given(levels=st.lists(st.integers(0, 15), min_size=64, max_size=64), start=st.integers(-9, 9))
@settings(max_examples=60, deadline=None)
def test_weights_on_16_even_levels_come_through_as_they_are(levels: list[int], start: int) -> None:
    matrix = torch.tensor(levels).float().view(1, 64) * 0.25 + start
    matrix[0, [0, 32]], matrix[0, [5, 40]] = (
        float(start),
        start + 15 * 0.25,
    )  # a group has both ends of its range
    values, scales = quantized(matrix, INT4)
    assert torch.equal(dequantize(values, scales, torch.float32), matrix)


def test_two_int4_weights_share_a_byte_half_a_group_apart() -> None:
    matrix = torch.arange(GROUP).remainder(16).float()[None]
    values, scales = quantized(matrix, INT4)
    assert values.tolist() == [[16 * level + level for level in range(16)]]
    assert scales.tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize("dtype", [INT8, INT4])
@pytest.mark.parametrize("weight", [0.0, 1.5, -1e30, 1e-40])
def test_a_group_of_equals_stays_nearly_what_it_is(dtype: torch.dtype, weight: float) -> None:
    matrix = torch.full((2, GROUP), weight)
    values, scales = quantized(matrix, dtype)
    torch.testing.assert_close(dequantize(values, scales, torch.float32), matrix, rtol=2**-7, atol=1e-38)


@pytest.mark.parametrize("dtype", [INT8, INT4])
def test_what_is_no_number_spoils_its_group_alone(dtype: torch.dtype) -> None:
    matrix = torch.ones(1, 2 * GROUP)
    matrix[0, 3] = torch.nan
    kept = dequantize(*quantized(matrix, dtype), torch.float32)
    assert kept[:, :GROUP].isnan().all()
    torch.testing.assert_close(kept[:, GROUP:], matrix[:, GROUP:])

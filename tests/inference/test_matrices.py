"""Matrices give the products that their weights stand for, in every type that they are kept in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.errors import ConfigurationError
from agentkit.inference.config import WeightType
from agentkit.inference.matrices import FEW_ROWS, Matrices
from agentkit.inference.quantized import GROUP, dequantize, quantize

GENERATOR = torch.Generator().manual_seed(0)
LAYERS = [torch.randn(48, 64, generator=GENERATOR) for _ in range(3)]
ROWS = torch.randn(20, 64, generator=GENERATOR)


@given(out=st.integers(1, 5), groups=st.integers(1, 3), scale=st.floats(1e-6, 1e6), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_no_int8_weight_is_further_off_than_half_a_step_of_its_group(
    out: int, groups: int, scale: float, seed: int
) -> None:
    matrix = torch.randn(out, groups * GROUP, generator=torch.Generator().manual_seed(seed)) * scale
    values = torch.empty(matrix.shape, dtype=torch.int8)
    scales = torch.empty(out, groups)

    quantize(matrix, values, scales)

    error = (dequantize(values, scales, torch.float32) - matrix).abs().view(out, groups, GROUP)
    assert (error <= scales[..., None] * 0.5001).all()
    torch.testing.assert_close(scales * 127, matrix.view(out, groups, GROUP).abs().amax(-1))


def test_a_group_of_zeros_stays_zeros() -> None:
    matrices = Matrices([torch.zeros(2, GROUP)], "int8")
    assert torch.equal(matrices.product(torch.ones(1, GROUP), 0), torch.zeros(1, 2))


def test_fp32_products_are_those_of_the_weights() -> None:
    matrices = Matrices(LAYERS, "float32", layers=len(LAYERS))
    for layer, weights in enumerate(LAYERS):
        torch.testing.assert_close(matrices.product(ROWS, layer), ROWS @ weights.T)


@pytest.mark.parametrize(("weights", "error"), [("bfloat16", 0.005), ("int8", 0.01)])
def test_smaller_weights_give_nearly_the_same_products(weights: WeightType, error: float) -> None:
    matrices = Matrices(LAYERS, weights, layers=len(LAYERS))
    for layer, exact_weights in enumerate(LAYERS):
        expected = ROWS @ exact_weights.T
        for product in (matrices.product(ROWS, layer), matrices.exact_product(ROWS, layer)):
            assert product.dtype == torch.float32
            assert (product - expected).norm() / expected.norm() < error


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_exact_products_round_nothing_but_the_weights(weights: WeightType) -> None:
    matrices = Matrices(LAYERS, weights, layers=len(LAYERS))
    stand_for = matrices.look_up(torch.arange(48), torch.float32)
    torch.testing.assert_close(matrices.exact_product(ROWS, 0), ROWS @ stand_for.T)
    few = ROWS[:FEW_ROWS]
    torch.testing.assert_close(matrices.product(few, 0), few @ stand_for.T)


def test_rows_are_looked_up_in_the_first_matrix() -> None:
    found = Matrices(LAYERS, "float32", layers=len(LAYERS)).look_up(torch.tensor([3, 3, 0]), torch.float32)
    assert torch.equal(found, LAYERS[0][[3, 3, 0]])


def test_memory_is_reported_with_the_scales() -> None:
    numbers = 3 * 48 * 64
    assert Matrices(LAYERS, "float32", layers=len(LAYERS)).nbytes == 4 * numbers
    assert Matrices(LAYERS, "bfloat16", layers=len(LAYERS)).nbytes == 2 * numbers
    assert Matrices(LAYERS, "int8", layers=len(LAYERS)).nbytes == numbers + 4 * numbers // GROUP


def test_int8_needs_whole_groups() -> None:
    with pytest.raises(ConfigurationError, match="multiple of 32 weights, these have 33"):
        Matrices([torch.zeros(2, 33)], "int8")

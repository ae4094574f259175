"""Matrices give the products that their weights stand for, in every type that they are kept in."""

from __future__ import annotations

import pytest
import torch

from agentkit.errors import ConfigurationError
from agentkit.inference.config import WeightType
from agentkit.inference.matrices import FEW_ROWS, Matrices
from agentkit.inference.quantized import GROUP

GENERATOR = torch.Generator().manual_seed(0)
LAYERS = [torch.randn(48, 64, generator=GENERATOR) for _ in range(3)]
ROWS = torch.randn(20, 64, generator=GENERATOR)


def test_fp32_products_are_those_of_the_weights() -> None:
    matrices = Matrices(LAYERS, "float32", layers=len(LAYERS))
    for layer, weights in enumerate(LAYERS):
        torch.testing.assert_close(matrices.product(ROWS, layer), ROWS @ weights.T)


@pytest.mark.parametrize(("weights", "error"), [("bfloat16", 0.005), ("int8", 0.01), ("int4", 0.12)])
def test_smaller_weights_give_nearly_the_same_products(weights: WeightType, error: float) -> None:
    matrices = Matrices(LAYERS, weights, layers=len(LAYERS))
    for layer, exact_weights in enumerate(LAYERS):
        expected = ROWS @ exact_weights.T
        for product in (matrices.product(ROWS, layer), matrices.exact_product(ROWS, layer)):
            assert product.dtype == torch.float32
            assert (product - expected).norm() / expected.norm() < error


@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
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
    assert Matrices(LAYERS, "int4", layers=len(LAYERS)).nbytes == numbers // 2 + 2 * 2 * numbers // GROUP
    narrow = [layer.bfloat16() for layer in LAYERS]
    assert Matrices(narrow, "int8", layers=len(LAYERS)).nbytes == numbers + 2 * numbers // GROUP


@pytest.mark.parametrize("weights", ["bfloat16", "int8", "int4"])
def test_widened_weights_are_what_the_small_ones_stood_for(weights: WeightType) -> None:
    matrices = Matrices(LAYERS, weights, layers=len(LAYERS))
    before = [matrices.exact_product(ROWS, layer) for layer in range(len(LAYERS))]
    matrices.widen(torch.float32)
    assert matrices.nbytes == 4 * 3 * 48 * 64
    for layer, product in enumerate(before):
        torch.testing.assert_close(matrices.product(ROWS, layer), product)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_a_matrix_of_more_rows_than_are_quantised_at_once_is_kept_whole(weights: WeightType) -> None:
    tall = torch.randn(8200, GROUP, generator=GENERATOR)
    kept = Matrices([tall], weights).look_up(torch.tensor([0, 8191, 8192, 8199]), torch.float32)
    torch.testing.assert_close(kept, tall[[0, 8191, 8192, 8199]], rtol=0, atol=0.4)
    product = Matrices([tall], weights).exact_product(torch.eye(GROUP), 0)
    torch.testing.assert_close(product[:, [0, 8191, 8192, 8199]], kept.T)


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_quantised_weights_need_whole_groups(weights: WeightType) -> None:
    message = f"weights='{weights}' needs rows of a multiple of 32 weights, these have 33"
    with pytest.raises(ConfigurationError, match=message):
        Matrices([torch.zeros(2, 33)], weights)

"""The Triton product gives what the reference gives: in Triton's interpreter, or on a GPU with TRITON_INTERPRET=0."""

from __future__ import annotations

import os

import pytest
import torch

from agentkit.inference.config import WeightType
from agentkit.inference.matrices import KERNEL_ROWS, Matrices
from agentkit.inference.quantized import GROUP, dequantize

DEVICE = "cuda" if os.environ["TRITON_INTERPRET"] == "0" else "cpu"
pytest.importorskip("triton", reason="needs Triton (pip install triton), which is for Linux on x86-64 only")

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
QUANTIZED: list[WeightType] = ["int8", "int4"]


def matrix(num_out: int, num_in: int, weights: WeightType, dtype: torch.dtype = torch.float32) -> Matrices:
    """Return random weights whose groups are of many sizes and lie to either side of zero."""
    generator = torch.Generator().manual_seed(num_out * num_in)
    groups = torch.randn(num_out, num_in // GROUP, GROUP, generator=generator)
    sizes, middles = torch.randn(2, num_out, num_in // GROUP, 1, generator=generator)
    return Matrices([(groups * sizes + middles).flatten(1).to(DEVICE, dtype)], weights)


def some_rows(num_rows: int, num_in: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(num_rows, num_in, generator=torch.Generator().manual_seed(num_rows)).to(DEVICE, dtype)


def assert_agrees(rows: torch.Tensor, kept: Matrices) -> None:
    from agentkit.inference.matvec_triton import triton_product

    values, scales = kept.values[-1], kept.scales[-1]
    reference = rows.float() @ dequantize(values, scales, rows.dtype).float().T
    result = triton_product(rows, values, scales)
    assert result.dtype == rows.dtype
    error = (result.float() - reference).abs().max() / reference.abs().max()
    assert error < TOLERANCES[rows.dtype]


@pytest.mark.parametrize("weights", QUANTIZED)
@pytest.mark.parametrize("num_rows", [1, 2, 3, 8, 16, 17, KERNEL_ROWS])
def test_any_number_of_rows_that_it_is_for(weights, num_rows):
    assert_agrees(some_rows(num_rows, 192), matrix(70, 192, weights))


@pytest.mark.parametrize("weights", QUANTIZED)
@pytest.mark.parametrize(
    ("num_out", "num_in"), [(1, 32), (31, 96), (32, 128), (33, 160), (64, 256), (65, 576)]
)
def test_matrices_that_are_no_whole_blocks(weights, num_out, num_in):
    assert_agrees(some_rows(3, num_in), matrix(num_out, num_in, weights))


@pytest.mark.parametrize("weights", QUANTIZED)
def test_bfloat16_rows(weights):
    assert_agrees(some_rows(4, 320, torch.bfloat16), matrix(48, 320, weights, torch.bfloat16))


@pytest.mark.parametrize("weights", QUANTIZED)
def test_rows_may_be_a_view_of_a_wider_tensor(weights):
    wide = some_rows(4, 192)
    wide[:, 96:] = torch.nan
    assert_agrees(wide[:, :96], matrix(40, 96, weights))


@pytest.mark.parametrize("weights", QUANTIZED)
def test_a_later_layer_is_read_from_where_it_lies(weights):
    layers = [torch.full((5, 64), 1e30, device=DEVICE), torch.randn(5, 64).to(DEVICE)]
    assert_agrees(some_rows(2, 64), Matrices(layers, weights, layers=2))

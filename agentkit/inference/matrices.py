"""Weight matrices as they are kept: fp32, bfloat16, or int8 with one scale per 32 neighbours of a row.

Knows products and look-ups of rows, not what they are for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows

from agentkit.errors import ConfigurationError
from agentkit.inference.config import WeightType

GROUP = 32
"""How many neighbours in a row of int8 weights share a scale: those of GGUF's Q8_0."""

FEW_ROWS = 16
"""So many rows are multiplied in the dtype that they have: a decode step is as exact as its weights."""

_LARGEST = 127
_ROWS_AT_ONCE = 8192  # of a matrix that is widened for a product: a head need not be widened whole


class Matrices:
    """One matrix of the same shape for each layer: `values` (layers, out, in), and where they are int8, `scales`.

    The scales are fp32, (layers, out, in / 32); an empty tensor where the values need none.
    """

    def __init__(
        self, matrices: Iterable[torch.Tensor], weights: WeightType | None = None, *, layers: int = 1
    ) -> None:
        """Keep so many matrices as `weights` says, or in the dtype that they have; each is let go of once it is kept.

        Raises:
            ConfigurationError: if int8 is asked for rows that are not whole groups.
        """
        upcoming = iter(matrices)
        first = next(upcoming)
        dtype = first.dtype if weights is None else getattr(torch, weights)
        self.scales = torch.empty(0, 0, 0, device=first.device)
        if dtype == first.dtype and layers == 1:
            self.values = first[None].contiguous()
            return
        shape = (layers, *first.shape)
        if dtype == torch.int8:
            if shape[2] % GROUP:
                raise ConfigurationError(
                    f"weights='int8' needs rows of a multiple of {GROUP} weights, these have {shape[2]}; "
                    "use 'float32' or 'bfloat16'"
                )
            self.scales = torch.empty(*shape[:2], shape[2] // GROUP, device=first.device)
        self.values = torch.empty(shape, dtype=dtype, device=first.device)
        for layer, matrix in enumerate(chain([first], upcoming)):
            if dtype == torch.int8:
                quantize(matrix, self.values[layer], self.scales[layer])
            else:
                self.values[layer].copy_(matrix)

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return self.values.nbytes + self.scales.nbytes

    def widen(self, dtype: torch.dtype) -> None:
        """Keep what the weights stand for in a wider type from now on: torch would widen them for every product."""
        if self.values.dtype == dtype:
            return
        widened = torch.empty(self.values.shape, dtype=dtype, device=self.values.device)
        for layer in range(len(widened)):
            widened[layer] = self._widened(layer, slice(None), dtype)
        self.values, self.scales = widened, self.scales.new_empty(0, 0, 0)

    def product(self, rows: torch.Tensor, layer: int) -> torch.Tensor:
        """Return rows @ matrix.T in the dtype of the rows.

        Where weights have to be widened for many rows, a CPU that is fast at it multiplies in bfloat16.
        """
        widened = self.values.dtype != rows.dtype
        if widened and rows.shape[0] > FEW_ROWS and _multiplies_bfloat16():
            return F.linear(rows.bfloat16(), self._widened(layer, slice(None), torch.bfloat16)).to(rows.dtype)
        return self.exact_product(rows, layer)

    def exact_product(self, rows: torch.Tensor, layer: int) -> torch.Tensor:
        """Return rows @ matrix.T with nothing rounded to bfloat16 but weights that are kept so."""
        if self.values.dtype == rows.dtype:
            return F.linear(rows, self.values[layer])
        parts = [
            F.linear(rows, self._widened(layer, slice(start, start + _ROWS_AT_ONCE), rows.dtype))
            for start in range(0, self.values.shape[1], _ROWS_AT_ONCE)
        ]
        return torch.cat(parts, dim=-1)

    def look_up(self, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return some rows of the first matrix."""
        values = F.embedding(ids, self.values[0])
        if self.values.dtype != torch.int8:
            return values.to(dtype)
        return dequantize(values, F.embedding(ids, self.scales[0]), dtype)

    def _widened(self, layer: int, rows: slice, dtype: torch.dtype) -> torch.Tensor:
        values = self.values[layer, rows]
        if values.dtype != torch.int8:
            return values.to(dtype)
        return dequantize(values, self.scales[layer, rows], dtype)


def quantize(matrix: torch.Tensor, values: torch.Tensor, scales: torch.Tensor) -> None:
    """Write a matrix as int8 values (out, in) and scales (out, in / 32): a group's largest weight becomes 127."""
    groups = matrix.float().view(*scales.shape, GROUP)
    scales.copy_(groups.abs().amax(dim=-1).div_(_LARGEST))
    divisors = scales.masked_fill(scales == 0, 1.0)  # a group of zeros stays one
    values.copy_((groups / divisors[..., None]).round_().view(matrix.shape))


def dequantize(values: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the matrix that int8 values and their scales stand for."""
    groups = values.view(*scales.shape, GROUP)
    return (groups * scales.to(dtype)[..., None]).view(values.shape)


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16: without them, torch's are very slow."""
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.10
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))

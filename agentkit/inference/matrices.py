"""Weight matrices as they are kept: fp32, bfloat16, or int8 or int4 with scales for each 32 neighbours of a row.

Knows products and look-ups of rows, not what they are for.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows

from agentkit.errors import ConfigurationError
from agentkit.inference.config import WeightType
from agentkit.inference.cpu import multiplies_bfloat16
from agentkit.inference.quantized import GROUP, INT4, INT8, QUANTIZED, dequantize, new_quantized, quantize

FEW_ROWS = 16
"""So many rows are multiplied in the dtype that they have: a decode step is as exact as its weights."""

KERNEL_ROWS = 32
"""So many rows a GPU multiplies with int8 and int4 weights as they are; for more, they are widened."""

_KEPT_AS: dict[WeightType, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "int8": INT8,
    "int4": INT4,
}
_ROWS_AT_ONCE = 8192  # of a matrix that is widened for a product: a head need not be widened whole


class Matrices:
    """One matrix of the same shape for each layer: `values` (layers, out, in), and where they are quantised, `scales`.

    Both have the shapes that `new_quantized` says then; the scales are an empty tensor where the values need none.
    """

    def __init__(
        self, matrices: Iterable[torch.Tensor], weights: WeightType | None = None, *, layers: int = 1
    ) -> None:
        """Keep so many matrices as `weights` says, or in the dtype that they have; each is let go of once it is kept.

        Raises:
            ConfigurationError: if int8 or int4 are asked for rows that are not whole groups.
        """
        upcoming = iter(matrices)
        first = next(upcoming)
        dtype = first.dtype if weights is None else _KEPT_AS[weights]
        self.scales = torch.empty(0, 0, 0, device=first.device)
        if dtype == first.dtype and layers == 1:
            self.values = first[None].contiguous()
            return
        shape = (layers, *first.shape)
        if dtype in QUANTIZED:
            if shape[2] % GROUP:
                raise ConfigurationError(
                    f"weights={weights!r} needs rows of a multiple of {GROUP} weights, these have {shape[2]}; "
                    "use 'float32' or 'bfloat16'"
                )
            self.values, self.scales = new_quantized(shape, dtype, like=first)
        else:
            self.values = first.new_empty(shape, dtype=dtype)
        for layer, matrix in enumerate(chain([first], upcoming)):
            self._keep(matrix, layer)

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return self.values.nbytes + self.scales.nbytes

    @property
    def quantized(self) -> bool:
        """Whether they are int8 or int4."""
        return self.values.dtype in QUANTIZED

    @property
    def packed(self) -> bool:
        """Whether two weights share a byte."""
        return self.values.dtype == INT4

    def widen(self, dtype: torch.dtype) -> None:
        """Keep what the weights stand for in a wider type from now on: torch would widen them for every product."""
        if self.values.dtype == dtype:
            return
        layers, num_out, num_columns = self.values.shape
        shape = (layers, num_out, 2 * num_columns if self.packed else num_columns)
        widened = torch.empty(shape, dtype=dtype, device=self.values.device)
        for layer in range(layers):
            widened[layer] = self._widened(layer, slice(None), dtype)
        self.values, self.scales = widened, self.scales.new_empty(0, 0, 0)

    def product(self, rows: torch.Tensor, layer: int) -> torch.Tensor:
        """Return rows @ matrix.T in the dtype of the rows.

        Where weights have to be widened for many rows, a CPU that is fast at it multiplies in bfloat16.
        """
        widened = self.values.dtype != rows.dtype and rows.device.type == "cpu"
        if widened and rows.shape[0] > FEW_ROWS and multiplies_bfloat16():
            return F.linear(rows.bfloat16(), self._widened(layer, slice(None), torch.bfloat16)).to(rows.dtype)
        return self.exact_product(rows, layer)

    def exact_product(self, rows: torch.Tensor, layer: int) -> torch.Tensor:
        """Return rows @ matrix.T with nothing rounded to bfloat16 but weights that are kept so."""
        if self.values.dtype == rows.dtype:
            return F.linear(rows, self.values[layer])
        if self.quantized and rows.is_cuda and rows.shape[0] <= KERNEL_ROWS:
            from agentkit.inference.matvec_triton import triton_product

            with torch.cuda.device(rows.device):  # Triton launches on the current one
                return triton_product(rows, self.values[layer], self.scales[layer])
        parts = [
            F.linear(rows, self._widened(layer, slice(start, start + _ROWS_AT_ONCE), rows.dtype))
            for start in range(0, self.values.shape[1], _ROWS_AT_ONCE)
        ]
        return torch.cat(parts, dim=-1)

    def look_up(self, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return some rows of the first matrix."""
        values = self.values[0].index_select(0, ids)
        if not self.quantized:
            return values.to(dtype)
        return dequantize(values, self.scales[0].index_select(0, ids), dtype)

    def _keep(self, matrix: torch.Tensor, layer: int) -> None:
        """Write one matrix, so many rows at once: quantising takes several times their memory."""
        if not self.quantized:
            self.values[layer].copy_(matrix)
            return
        for start in range(0, len(matrix), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            quantize(matrix[rows], self.values[layer, rows], self.scales[layer, rows])

    def _widened(self, layer: int, rows: slice, dtype: torch.dtype) -> torch.Tensor:
        values = self.values[layer, rows]
        if not self.quantized:
            return values.to(dtype)
        return dequantize(values, self.scales[layer, rows], dtype)

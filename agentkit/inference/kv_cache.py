"""The keys and values of one sequence, in one growing buffer. Knows no token ids; decides nothing."""

from __future__ import annotations

from typing import Self

import torch

from agentkit.errors import InferenceError


class KVBuffer:
    """Keys and values of a sequence's first `length` positions, for all layers.

    `keys` and `values` have the shape (num_layers, num_kv_heads, capacity, head_dim); what lies past `length`
    is not initialised. They are replaced when the buffer grows: hold the buffer, not its tensors.
    """

    __slots__ = ("keys", "length", "values")

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        capacity: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (num_layers, num_kv_heads, capacity, head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def capacity(self) -> int:
        """How many positions fit before the buffer has to grow."""
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """The bytes that the buffer holds, used or not."""
        return self.keys.nbytes + self.values.nbytes

    def reserve(self, capacity: int) -> None:
        """Grow to hold at least `capacity` positions, keeping the content. Never shrinks.

        If there is no memory for that, the buffer stays as it was.
        """
        if capacity > self.capacity:
            keys = _resized(self.keys, capacity, self.length)
            self.values = _resized(self.values, capacity, self.length)
            self.keys = keys

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on; the memory stays reserved.

        Raises:
            InferenceError: if the buffer does not hold that many positions.
        """
        self._require_held(length)
        self.length = length

    def copy(self, length: int) -> Self:
        """Return a new buffer with the first `length` positions, and no room for more.

        Raises:
            InferenceError: if the buffer does not hold that many positions.
        """
        self._require_held(length)
        twin = object.__new__(type(self))
        twin.keys = _resized(self.keys, length, length)
        twin.values = _resized(self.values, length, length)
        twin.length = length
        return twin

    def _require_held(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise InferenceError(f"the buffer holds {self.length} positions, asked for {length}")


def _resized(content: torch.Tensor, capacity: int, length: int) -> torch.Tensor:
    num_layers, num_kv_heads, _, head_dim = content.shape
    fresh = content.new_empty((num_layers, num_kv_heads, capacity, head_dim))
    fresh[:, :, :length] = content[:, :, :length]
    return fresh

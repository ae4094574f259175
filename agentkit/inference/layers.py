"""The decoder layers: fused weights, attention over cached pages, SwiGLU. Knows no vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows

from agentkit.inference.attention import Step, store
from agentkit.inference.config import ModelConfig, WeightType
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.matrices import Matrices
from agentkit.inference.rope import rotate


class DecoderLayers:
    """The weights of all layers; q, k and v are one matrix, and so are gate and up: one product each."""

    def __init__(
        self, config: ModelConfig, tensors: Mapping[str, torch.Tensor], weights: WeightType | None
    ) -> None:
        self._num_heads = config.num_heads
        self._num_kv_heads = config.num_kv_heads
        self._head_dim = config.head_dim
        self._eps = config.rms_norm_eps

        def of_each_layer(*names: str) -> Iterator[torch.Tensor]:
            """Yield the tensors of these names, joined, of one layer after another: no two layers are held at once."""
            for index in range(config.num_layers):
                parts = [tensors[f"model.layers.{index}.{name}.weight"] for name in names]
                yield parts[0] if len(parts) == 1 else torch.cat(parts)

        def matrices(*names: str) -> Matrices:
            return Matrices(of_each_layer(*names), weights, layers=config.num_layers)

        self.attention_norm = torch.stack([*of_each_layer("input_layernorm")])
        self.mlp_norm = torch.stack([*of_each_layer("post_attention_layernorm")])
        self.qkv = matrices(*(f"self_attn.{name}_proj" for name in "qkv"))
        self.output = matrices("self_attn.o_proj")
        self.gate_up = matrices("mlp.gate_proj", "mlp.up_proj")
        self.down = matrices("mlp.down_proj")

    def __len__(self) -> int:
        return self.qkv.values.shape[0]

    @property
    def matrices(self) -> list[Matrices]:
        """All that is multiplied by."""
        return [self.qkv, self.output, self.gate_up, self.down]

    def forward(self, index: int, hidden: torch.Tensor, pool: PagePool, step: Step) -> torch.Tensor:
        """Return the hidden states after one layer, and write its keys and values to the slots of the step.

        The shape is (rows, hidden_size).
        """
        normed = rms_norm(hidden, self.attention_norm[index], self._eps)
        hidden = hidden + self._attention(index, normed, pool, step)
        return hidden + self._mlp(index, rms_norm(hidden, self.mlp_norm[index], self._eps))

    def _attention(self, index: int, hidden: torch.Tensor, pool: PagePool, step: Step) -> torch.Tensor:
        num_rotated = self._num_heads + self._num_kv_heads
        heads = self.qkv.product(hidden, index).view(hidden.shape[0], -1, self._head_dim)
        rotated = rotate(heads[:, :num_rotated], step.cosines, step.signed_sines)
        keys, values = pool.keys[index], pool.values[index]
        store(keys, step.slots, rotated[:, self._num_heads :])
        store(values, step.slots, heads[:, num_rotated:])
        attended = step.attend(rotated[:, : self._num_heads], keys, values)
        return self.output.product(attended, index)

    def _mlp(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up.product(hidden, index).chunk(2, dim=-1)
        return self.down.product(F.silu(gate).mul_(up), index)


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Scale each row to a root mean square of one, then by the weight."""
    return F.rms_norm(hidden, weight.shape, weight, eps)

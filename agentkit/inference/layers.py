"""The decoder layers: fused weights, attention over cached pages, SwiGLU. Knows no vocabulary."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows

from agentkit.inference.attention import Step, attend, store
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

        def of_each_layer(*names: str) -> list[torch.Tensor]:
            """Return the tensors of these names, joined; one for each layer."""
            found = [
                [tensors[f"model.layers.{index}.{name}.weight"] for name in names]
                for index in range(config.num_layers)
            ]
            return [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in found]

        self.attention_norm = torch.stack(of_each_layer("input_layernorm"))
        self.mlp_norm = torch.stack(of_each_layer("post_attention_layernorm"))
        self.qkv = Matrices(of_each_layer(*(f"self_attn.{name}_proj" for name in "qkv")), weights)
        self.output = Matrices(of_each_layer("self_attn.o_proj"), weights)
        self.gate_up = Matrices(of_each_layer("mlp.gate_proj", "mlp.up_proj"), weights)
        self.down = Matrices(of_each_layer("mlp.down_proj"), weights)

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
        attended = attend(rotated[:, : self._num_heads], keys, values, step.spans)
        return self.output.product(attended, index)

    def _mlp(self, index: int, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_up.product(hidden, index).chunk(2, dim=-1)
        return self.down.product(F.silu(gate).mul_(up), index)


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Scale each row to a root mean square of one, then by the weight."""
    return F.rms_norm(hidden, weight.shape, weight, eps)

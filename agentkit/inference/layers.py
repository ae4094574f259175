"""One decoder layer: fused weights, attention over cached pages, SwiGLU. Knows no vocabulary."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows

from agentkit.inference.attention import Step, store
from agentkit.inference.config import ModelConfig
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.rope import rotate


class DecoderLayer:
    """The weights of one layer; q, k and v are one matrix, and so are gate and up: one product each."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, torch.Tensor], index: int) -> None:
        prefix = f"model.layers.{index}."
        self._index = index
        self._num_heads = config.num_heads
        self._num_kv_heads = config.num_kv_heads
        self._head_dim = config.head_dim
        self._eps = config.rms_norm_eps
        self._attention_norm = tensors[prefix + "input_layernorm.weight"]
        self._qkv = torch.cat([tensors[f"{prefix}self_attn.{name}_proj.weight"] for name in ("q", "k", "v")])
        self._attention_output = tensors[prefix + "self_attn.o_proj.weight"]
        self._mlp_norm = tensors[prefix + "post_attention_layernorm.weight"]
        self._gate_up = torch.cat([tensors[f"{prefix}mlp.{name}_proj.weight"] for name in ("gate", "up")])
        self._down = tensors[prefix + "mlp.down_proj.weight"]

    def forward(self, hidden: torch.Tensor, pool: PagePool, step: Step) -> torch.Tensor:
        """Return the hidden states after this layer, and write its keys and values to the slots of the step.

        The shape is (rows, hidden_size).
        """
        hidden = hidden + self._attention(rms_norm(hidden, self._attention_norm, self._eps), pool, step)
        return hidden + self._mlp(rms_norm(hidden, self._mlp_norm, self._eps))

    def _attention(self, hidden: torch.Tensor, pool: PagePool, step: Step) -> torch.Tensor:
        num_rotated = self._num_heads + self._num_kv_heads
        heads = F.linear(hidden, self._qkv).view(hidden.shape[0], -1, self._head_dim)
        rotated = rotate(heads[:, :num_rotated], step.cosines, step.signed_sines)
        keys, values = pool.keys[self._index], pool.values[self._index]
        store(keys, step.slots, rotated[:, self._num_heads :])
        store(values, step.slots, heads[:, num_rotated:])
        attended = step.attend(rotated[:, : self._num_heads], keys, values)
        return F.linear(attended, self._attention_output)

    def _mlp(self, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = F.linear(hidden, self._gate_up).chunk(2, dim=-1)
        return F.linear(F.silu(gate).mul_(up), self._down)


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Scale each row to a root mean square of one, then by the weight."""
    return F.rms_norm(hidden, weight.shape, weight, eps)

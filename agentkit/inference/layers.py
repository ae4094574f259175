"""One decoder layer: fused weights, attention over cached keys, SwiGLU. Knows no vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows

from agentkit.inference.config import ModelConfig
from agentkit.inference.kv_cache import KVBuffer
from agentkit.inference.rope import rotate


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What all layers of one forward pass share: where its positions are and what each may look at.

    `mask` is added to the scores; None for a single query, which sees all, and where `causal` says it all.
    """

    start: int
    end: int
    cosines: torch.Tensor
    signed_sines: torch.Tensor
    causal: bool
    mask: torch.Tensor | None


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

    def forward(self, hidden: torch.Tensor, kv: KVBuffer, step: Step) -> torch.Tensor:
        """Return the hidden states after this layer, and write its keys and values at the step's positions.

        The shape is (query_len, hidden_size). `kv` must have room up to `step.end`.
        """
        hidden = hidden + self._attention(rms_norm(hidden, self._attention_norm, self._eps), kv, step)
        return hidden + self._mlp(rms_norm(hidden, self._mlp_norm, self._eps))

    def _attention(self, hidden: torch.Tensor, kv: KVBuffer, step: Step) -> torch.Tensor:
        query_len = hidden.shape[0]
        num_rotated = self._num_heads + self._num_kv_heads
        heads = F.linear(hidden, self._qkv).view(query_len, -1, self._head_dim)
        rotated = rotate(heads[:, :num_rotated], step.cosines, step.signed_sines)
        kv.keys[self._index, :, step.start : step.end] = rotated[:, self._num_heads :].transpose(0, 1)
        kv.values[self._index, :, step.start : step.end] = heads[:, num_rotated:].transpose(0, 1)
        keys = kv.keys[self._index : self._index + 1, :, : step.end]
        values = kv.values[self._index : self._index + 1, :, : step.end]
        queries = rotated[:, : self._num_heads]
        attended = _attend(queries, keys, values, step)
        return F.linear(attended, self._attention_output)

    def _mlp(self, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = F.linear(hidden, self._gate_up).chunk(2, dim=-1)
        return F.linear(F.silu(gate).mul_(up), self._down)


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Scale each row to a root mean square of one, then by the weight."""
    return F.rms_norm(hidden, weight.shape, weight, eps)


def _attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, step: Step) -> torch.Tensor:
    """Attend with queries of the shape (query_len, num_heads, head_dim); return (query_len, hidden)."""
    if queries.shape[0] == 1:
        # One query sees every key, and the heads of a group share theirs: they pass as the queries of one head,
        # (1, num_kv_heads, group, head_dim), which no mask hides and for which nothing is repeated.
        grouped = queries.view(1, keys.shape[1], -1, keys.shape[3])
        return F.scaled_dot_product_attention(grouped, keys, values).view(1, -1)
    attended = F.scaled_dot_product_attention(
        queries.transpose(0, 1)[None],
        keys,
        values,
        attn_mask=step.mask,
        is_causal=step.causal,
        enable_gqa=True,
    )
    return attended[0].transpose(0, 1).reshape(queries.shape[0], -1)

"""The same model with its channels in another order: the same function, but other neighbours in every row."""

from __future__ import annotations

from dataclasses import replace

import torch

from agentkit.inference.checkpoint import Checkpoint
from agentkit.inference.llama_tensors import EMBEDDING, HEAD, NORM, layer_tensor


def reordered(checkpoint: Checkpoint) -> Checkpoint:
    """Shuffle the hidden and the intermediate channels, and within each head those of the values."""
    config, tensors = checkpoint.config, dict(checkpoint.tensors)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randperm(config.hidden_size, generator=generator)
    for name in (EMBEDDING, NORM, HEAD):
        if name in tensors:
            tensors[name] = tensors[name][..., hidden]
    for index in range(config.num_layers):
        intermediate = torch.randperm(config.intermediate_size, generator=generator)
        in_head = torch.randperm(config.head_dim, generator=generator)
        values, attended = (
            (torch.arange(heads)[:, None] * config.head_dim + in_head).flatten()
            for heads in (config.num_kv_heads, config.num_heads)
        )
        everything = slice(None)
        orders: dict[str, tuple[torch.Tensor | slice, torch.Tensor]] = {
            "self_attn.q_proj": (everything, hidden),
            "self_attn.k_proj": (everything, hidden),
            "self_attn.v_proj": (values, hidden),
            "self_attn.o_proj": (hidden, attended),
            "mlp.gate_proj": (intermediate, hidden),
            "mlp.up_proj": (intermediate, hidden),
            "mlp.down_proj": (hidden, intermediate),
        }
        for part, (rows, columns) in orders.items():
            name = layer_tensor(index, part)
            tensors[name] = tensors[name][rows][:, columns]
        for part in ("input_layernorm", "post_attention_layernorm"):
            name = layer_tensor(index, part)
            tensors[name] = tensors[name][hidden]
    return replace(checkpoint, tensors=tensors)

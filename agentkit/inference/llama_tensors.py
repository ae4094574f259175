"""Which tensors a Llama model has: their names, which are those of transformers, and their shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from agentkit.errors import ModelLoadError
from agentkit.inference.config import ModelConfig

T = TypeVar("T")

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"


def layer_tensor(index: int | str, part: str) -> str:
    """Return the name of a layer's tensor, such as `self_attn.q_proj` of layer 0."""
    return f"model.layers.{index}.{part}.weight"


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that a model of this configuration has."""
    hidden, intermediate = config.hidden_size, config.intermediate_size
    query_size = config.num_heads * config.head_dim
    kv_size = config.num_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, hidden), NORM: (hidden,)}
    if not config.tie_embeddings:
        shapes[HEAD] = (config.vocab_size, hidden)
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (query_size, hidden),
        "self_attn.k_proj": (kv_size, hidden),
        "self_attn.v_proj": (kv_size, hidden),
        "self_attn.o_proj": (hidden, query_size),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (intermediate, hidden),
        "mlp.up_proj": (intermediate, hidden),
        "mlp.down_proj": (hidden, intermediate),
    }
    for index in range(config.num_layers):
        shapes |= {layer_tensor(index, part): shape for part, shape in layer.items()}
    return shapes


def renamed(tensors: Mapping[str, T], usual_name: Callable[[str], str]) -> dict[str, T]:
    """Return what a file holds by the usual names.

    Raises:
        ModelLoadError: if two of its names mean the same tensor.
    """
    result: dict[str, T] = {}
    for name, tensor in tensors.items():
        usual = usual_name(name)
        if usual in result:
            raise ModelLoadError(f"two tensors are both {usual}, one of them under the name {name}")
        result[usual] = tensor
    return result


def halves_rotated(name: str, weight: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """Return a weight of a model that rotates neighbouring rows together as one that rotates halves.

    Meta's files and llama.cpp's have rows i and i + 1 of a head turn together, transformers and we rows i and
    i + head_dim / 2. Only queries and keys are rotated; any other weight is returned as it is.
    """
    if name.endswith("q_proj.weight"):
        num_heads = config.num_heads
    elif name.endswith("k_proj.weight"):
        num_heads = config.num_kv_heads
    else:
        return weight
    rows, columns = weight.shape
    pairs = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)

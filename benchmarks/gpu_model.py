"""The model that the GPU benchmark runs, from random weights, and what one pass of it must read and compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from agentkit.inference.config import Llama3Scaling, ModelConfig
from agentkit.inference.quantized import GROUP

QuantizedWeights: TypeAlias = Literal["int8", "int4"]

LLAMA_31_8B = ModelConfig(
    vocab_size=128_256,
    hidden_size=4096,
    intermediate_size=14_336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    rms_norm_eps=1e-5,
    rope_theta=500_000.0,
    rope_scaling=Llama3Scaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=8192
    ),
    context_length=131_072,
    tie_embeddings=False,
)
TINY = ModelConfig(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=96,
    num_layers=2,
    num_heads=8,
    num_kv_heads=2,
    head_dim=8,
    rms_norm_eps=1e-5,
    rope_theta=10_000.0,
    rope_scaling=Llama3Scaling(
        factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=64
    ),
    context_length=512,
    tie_embeddings=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a model costs whatever runs it: `weight_bytes` are those of the matrices that every step reads."""

    weight_bytes: int
    kv_bytes_per_token: int
    multiply_adds_per_token: int
    head_multiply_adds: int
    attention_multiply_adds: int

    def decode_bytes(self, *, batch: int, context: int) -> int:
        """Return what a decode step must read."""
        return self.weight_bytes + batch * context * self.kv_bytes_per_token

    def prefill_operations(self, *, start: int, end: int) -> float:
        """Return the floating-point operations of prefilling positions, and of the logits of the last one."""
        pairs = (end * (end + 1) - start * (start + 1)) / 2  # of a query and a key that it sees
        adds = (end - start) * self.multiply_adds_per_token + pairs * self.attention_multiply_adds
        return 2.0 * (adds + self.head_multiply_adds)


def cost_of(config: ModelConfig, dtype: torch.dtype, weights: QuantizedWeights | None = None) -> Cost:
    """Count what a pass of the model takes, whose matrices are of that type unless they are quantised."""
    shapes = tensor_shapes(config)
    matrices = {name: rows * columns for name, (rows, columns) in _matrices(shapes).items()}
    head = matrices.pop("lm_head.weight")
    layers = sum(matrices.values())
    return Cost(
        weight_bytes=_bytes_of(layers, dtype, weights)
        + _bytes_of(head, dtype, "int8" if weights == "int4" else weights),
        kv_bytes_per_token=2 * config.num_layers * config.num_kv_heads * config.head_dim * dtype.itemsize,
        multiply_adds_per_token=layers,
        head_multiply_adds=head,
        attention_multiply_adds=2 * config.num_layers * config.num_heads * config.head_dim,
    )


def _bytes_of(numbers: int, dtype: torch.dtype, weights: QuantizedWeights | None) -> int:
    groups = numbers // GROUP
    match weights:
        case None:
            return numbers * dtype.itemsize
        case "int8":
            return numbers + groups * dtype.itemsize
        case "int4":
            return numbers // 2 + groups * 2 * torch.bfloat16.itemsize


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a checkpoint's tensors."""
    hidden, intermediate = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (config.vocab_size, hidden),
    }
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (intermediate, hidden),
        "mlp.up_proj": (intermediate, hidden),
        "mlp.down_proj": (hidden, intermediate),
    }
    for index in range(config.num_layers):
        shapes |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    return shapes


def random_tensors(
    config: ModelConfig, *, device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Return weights that keep hidden states at a like size from layer to layer; norms are ones."""
    generator = torch.Generator(device).manual_seed(0)
    return {
        name: torch.ones(shape, device=device, dtype=dtype)
        if len(shape) == 1
        else torch.empty(shape, device=device, dtype=dtype).normal_(
            std=shape[-1] ** -0.5, generator=generator
        )
        for name, shape in tensor_shapes(config).items()
    }


def _matrices(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, int]]:
    return {
        name: (shape[0], shape[1])
        for name, shape in shapes.items()
        if len(shape) == 2 and name != "model.embed_tokens.weight"
    }

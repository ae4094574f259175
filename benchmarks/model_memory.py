"""How much memory Llama 3.1 takes, by the type of its weights and of its KV cache: `python -m benchmarks.model_memory`.

Computed from the shapes of the models, not measured: activations, CUDA graphs and NCCL's buffers come on top.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

WeightType = Literal["bf16", "fp8", "int4"]
KVType = Literal["bf16", "fp8"]

BYTES_OF_WEIGHT: Final[dict[WeightType, float]] = {
    "bf16": 2.0,
    "fp8": 1.0,
    "int4": (4 + (16 + 4) / 128)
    / 8,  # 4 bits, and a 16-bit scale and a 4-bit zero point for each group of 128
}
"""Of the matrices in the layers; embeddings, head and norms stay in bf16, as quantised checkpoints have them."""

BYTES_OF_KV: Final[dict[KVType, int]] = {"bf16": 2, "fp8": 1}

CONTEXT: Final = 131_072
NODE_BYTES: Final = 8 * 80e9
USABLE: Final = 0.9
"""What vLLM takes of a GPU's memory unless told otherwise (`--gpu-memory-utilization`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Llama model, as table 3 of "The Llama 3 Herd of Models" has it (https://arxiv.org/abs/2407.21783)."""

    name: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int = 8
    vocab_size: int = 128_256

    @property
    def head_dim(self) -> int:
        """How wide one head is."""
        return self.hidden_size // self.num_heads

    @property
    def layer_weights(self) -> int:
        """How many weights the matrices of all layers have: four of attention, three of the MLP."""
        attention = 2 * self.hidden_size * (self.num_heads + self.num_kv_heads) * self.head_dim
        return self.num_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def other_weights(self) -> int:
        """How many weights the embeddings, the head and the norms have."""
        return 2 * self.vocab_size * self.hidden_size + (2 * self.num_layers + 1) * self.hidden_size

    def weight_bytes(self, kind: WeightType) -> float:
        """How many bytes the weights take."""
        return self.layer_weights * BYTES_OF_WEIGHT[kind] + self.other_weights * BYTES_OF_WEIGHT["bf16"]

    def kv_bytes(self, kind: KVType) -> int:
        """How many bytes the keys and values of one token take."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * BYTES_OF_KV[kind]

    def kv_tokens(self, weights: WeightType, kv: KVType) -> int:
        """How many tokens of KV fit beside the weights in one node; 0 if the weights do not."""
        return max(0, int((NODE_BYTES * USABLE - self.weight_bytes(weights)) / self.kv_bytes(kv)))


SHAPES: Final = (
    Shape(name="8B", num_layers=32, hidden_size=4_096, intermediate_size=14_336, num_heads=32),
    Shape(name="70B", num_layers=80, hidden_size=8_192, intermediate_size=28_672, num_heads=64),
    Shape(name="405B", num_layers=126, hidden_size=16_384, intermediate_size=53_248, num_heads=128),
)


def table() -> Iterator[str]:
    """Give the lines of the table: a model's weights, a token's KV, a full context's, and what a node holds."""
    yield "| model | weights | GB | KV | KB a token | GB for 131,072 tokens | tokens in 8 x 80 GB |"
    yield "|---|---|---|---|---|---|---|"
    for shape in SHAPES:
        for weights in BYTES_OF_WEIGHT:
            for kv in BYTES_OF_KV:
                tokens = shape.kv_tokens(weights, kv)
                yield (
                    f"| {shape.name} | {weights} | {shape.weight_bytes(weights) / 1e9:.0f} | {kv} "
                    f"| {shape.kv_bytes(kv) / 1e3:.0f} | {CONTEXT * shape.kv_bytes(kv) / 1e9:.0f} "
                    f"| {f'{tokens:,}' if tokens else 'two nodes'} |"
                )


if __name__ == "__main__":
    print("\n".join(table()))

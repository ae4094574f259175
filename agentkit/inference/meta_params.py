"""Meta's `params.json` -> ModelConfig. Knows no files and no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentkit.errors import ModelLoadError
from agentkit.inference.config import Llama3Scaling, ModelConfig
from agentkit.inference.settings import integer, number

# https://github.com/meta-llama/llama-models/blob/main/models/llama3/args.py; what is not here changes what the
# model computes (vision, quantisation, LoRA, experts). The batch size was that of Meta's own server.
_KNOWN = frozenset(
    {
        "dim",
        "n_layers",
        "n_heads",
        "n_kv_heads",
        "vocab_size",
        "ffn_dim_multiplier",
        "multiple_of",
        "norm_eps",
        "rope_theta",
        "use_scaled_rope",
        "max_seq_len",
        "max_batch_size",
    }
)
# The file does not say how far positions are scaled. Llama 3.1 and 3.3:
# https://github.com/meta-llama/llama-models/blob/main/models/llama3/model.py: apply_scaling.
_SCALE_FACTOR = 8.0
_LOW_FREQ_FACTOR, _HIGH_FREQ_FACTOR = 1.0, 4.0
_ORIGINAL_CONTEXT = 8192
# Llama 3.2 1B and 3B (and Llama Guard 3 1B) were trained with another factor, which Meta's own code forgot:
# https://github.com/meta-llama/llama-models/issues/241. They are the scaled models narrower than the 8B.
_SMALL_SCALE_FACTOR = 32.0
_DIM_OF_8B = 4096

# https://github.com/huggingface/transformers/blob/main/src/transformers/models/llama/convert_llama_weights_to_hf.py:
# CONTEXT_LENGTH_FOR_VERSION, by what tells the versions apart. Llama 1 and 2 look the same: the shorter one.
_CONTEXT_LENGTH = 2048
_LLAMA_3_CONTEXT_LENGTH = 8192
_LLAMA_3_1_CONTEXT_LENGTH = 131_072
_LLAMA_3_ROPE_THETA = 500_000.0


def config_from_params(params: Mapping[str, Any], *, tie_embeddings: bool) -> ModelConfig:
    """Read a `params.json`. The context length is its `max_seq_len`, else that of the version it looks like.

    Raises:
        ModelLoadError: if it is not a Llama model that we can run, naming the key and its value.
    """
    unknown = sorted(params.keys() - _KNOWN)
    if unknown:
        raise ModelLoadError(
            f"the configuration has {', '.join(map(repr, unknown[:3]))}, which agentkit does not know; "
            "it runs text models of Llama 3 in their original precision"
        )
    dim, num_heads = integer(params, "dim"), integer(params, "n_heads")
    if num_heads < 1 or dim % num_heads:
        raise ModelLoadError(f"'dim' must be a multiple of 'n_heads', got {dim} and {num_heads}")
    return ModelConfig(
        vocab_size=integer(params, "vocab_size"),
        hidden_size=dim,
        intermediate_size=_intermediate_size(params, dim),
        num_layers=integer(params, "n_layers"),
        num_heads=num_heads,
        num_kv_heads=integer(params, "n_kv_heads", num_heads),
        head_dim=dim // num_heads,
        rms_norm_eps=number(params, "norm_eps"),
        rope_theta=number(params, "rope_theta", 10_000.0),
        rope_scaling=_scaling(dim) if _is_scaled(params) else None,
        context_length=integer(params, "max_seq_len", _usual_context_length(params)),
        tie_embeddings=tie_embeddings,
    )


def _intermediate_size(params: Mapping[str, Any], dim: int) -> int:
    # https://github.com/meta-llama/llama-models/blob/main/models/llama3/model.py: FeedForward
    size = int(number(params, "ffn_dim_multiplier", 1.0) * int(2 * 4 * dim / 3))
    multiple = integer(params, "multiple_of")
    if multiple < 1:
        raise ModelLoadError(f"'multiple_of' must be above 0, got {multiple}")
    return multiple * -(-size // multiple)


def _is_scaled(params: Mapping[str, Any]) -> bool:
    scaled = params.get("use_scaled_rope", False)
    if not isinstance(scaled, bool):
        raise ModelLoadError(f"'use_scaled_rope' must be true or false, got {scaled!r}")
    return scaled


def _scaling(dim: int) -> Llama3Scaling:
    return Llama3Scaling(
        factor=_SCALE_FACTOR if dim >= _DIM_OF_8B else _SMALL_SCALE_FACTOR,
        low_freq_factor=_LOW_FREQ_FACTOR,
        high_freq_factor=_HIGH_FREQ_FACTOR,
        original_context_length=_ORIGINAL_CONTEXT,
    )


def _usual_context_length(params: Mapping[str, Any]) -> int:
    if _is_scaled(params):
        return _LLAMA_3_1_CONTEXT_LENGTH
    is_llama_3 = number(params, "rope_theta", 10_000.0) == _LLAMA_3_ROPE_THETA
    return _LLAMA_3_CONTEXT_LENGTH if is_llama_3 else _CONTEXT_LENGTH

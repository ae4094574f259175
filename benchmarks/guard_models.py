"""Guard models with random weights, as large as real ones: they take as long as trained ones, and judge nothing.

Prompt Guard 2 of 22M parameters is a DeBERTa of 12 layers; a Llama-Guard-shaped model is given here the layers of
SmolLM2-135M and the vocabulary of Llama 3, whose `safe` and `unsafe` are made to hold all of the probability.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from agentkit.inference.base import Engine
from agentkit.inference.config import EngineConfig, ModelConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.model import LlamaModel
from tests.inference.encoders import word_tokenizer
from tests.shields.guarding import SAFE, UNSAFE, llama3

_GUARD = ModelConfig(
    vocab_size=128256,
    hidden_size=576,
    intermediate_size=1536,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    context_length=16384,
    tie_embeddings=False,
)


def write_prompt_guard(folder: Path) -> Path:
    """Write a classifier of Prompt Guard 2's small shape and return its folder. A token is a word."""
    tokenizer = word_tokenizer()
    tokenizer.save_pretrained(folder)
    config = DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        intermediate_size=1536,
        max_position_embeddings=512,
        type_vocab_size=0,
        relative_attention=True,
        position_buckets=256,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        pooler_hidden_size=384,
        pad_token_id=0,
        id2label={0: "BENIGN", 1: "MALICIOUS"},
    )
    torch.manual_seed(0)
    DebertaV2ForSequenceClassification(config).save_pretrained(folder)
    return folder


def llama_guard_engine() -> Engine:
    """Return an engine that assesses as Llama Guard does, by chance."""
    return LocalEngine(LlamaModel(_GUARD, _random_weights()), llama3(), EngineConfig())


def _random_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    width, inner, keys = _GUARD.hidden_size, _GUARD.intermediate_size, _GUARD.num_kv_heads * _GUARD.head_dim
    layer = {
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (_GUARD.vocab_size, width),
        "model.norm.weight": (width,),
        "lm_head.weight": (_GUARD.vocab_size, width),
    }
    for index in range(_GUARD.num_layers):
        shapes |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    tensors = {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in shapes.items()}
    # The answer's two tokens point to opposite sides, far enough that no other token matters.
    direction = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
    head = tensors["lm_head.weight"].mul_(0.001)
    head[SAFE], head[UNSAFE] = 4000 * direction, -4000 * direction
    return tensors

"""A tiny Llama checkpoint: random weights and a real tokenizer, in a folder as a user would have it."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = ("<|begin|>", "<|end|>", "<|turn|>")
VOCAB_SIZE = 320  # the bytes, the special tokens and some merges
_CORPUS = (
    "The quick brown fox jumps over the lazy dog while the engine computes the next token of the text.",
    '{"name": "get_current_temperature", "parameters": {"location": "Paris, France"}}',
)

TINY_CONTEXT = 4096


def build_tiny_checkpoint(
    folder: Path, *, context_length: int = 512, seed: int = 0, head_dim: int = 8
) -> Path:
    """Write the checkpoint into `folder` and return it; the same seed gives the same weights.

    With heads of 32, its decode steps are compiled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _train_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = _config(tokenizer, context_length, head_dim)
    tokenizer_config = {"bos_token": SPECIAL_TOKENS[0], "eos_token": SPECIAL_TOKENS[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_random_tensors(config, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _train_tokenizer() -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def _config(tokenizer: tokenizers.Tokenizer, context_length: int, head_dim: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": context_length,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.token_to_id(SPECIAL_TOKENS[0]),
        "eos_token_id": tokenizer.token_to_id(SPECIAL_TOKENS[1]),
    }


def _random_tensors(config: dict[str, object], seed: int) -> dict[str, torch.Tensor]:
    """Return weights that are large enough for clear winners among the logits."""
    generator = torch.Generator().manual_seed(seed)

    def weight(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator).mul(2.0 / columns**0.5)

    vocab_size, hidden, intermediate = int(str(config["vocab_size"])), 32, 64
    heads, kv_heads = 4 * int(str(config["head_dim"])), 2 * int(str(config["head_dim"]))
    tensors = {
        "model.embed_tokens.weight": torch.randn(vocab_size, hidden, generator=generator),
        "model.norm.weight": torch.ones(hidden),
        "lm_head.weight": weight(vocab_size, hidden),
    }
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        tensors |= {
            prefix + "input_layernorm.weight": torch.ones(hidden),
            prefix + "post_attention_layernorm.weight": torch.ones(hidden),
            prefix + "self_attn.q_proj.weight": weight(heads, hidden),
            prefix + "self_attn.k_proj.weight": weight(kv_heads, hidden),
            prefix + "self_attn.v_proj.weight": weight(kv_heads, hidden),
            prefix + "self_attn.o_proj.weight": weight(hidden, heads),
            prefix + "mlp.gate_proj.weight": weight(intermediate, hidden),
            prefix + "mlp.up_proj.weight": weight(intermediate, hidden),
            prefix + "mlp.down_proj.weight": weight(hidden, intermediate),
        }
    return tensors

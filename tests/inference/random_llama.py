"""Random-weight Llama models of transformers, and how to write one as a GGUF file or as Meta does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import LlamaConfig, LlamaForCausalLM

from tests.inference.ggml_blocks import packed, unpacked

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}

_GGUF_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_META_LAYER = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}
_META_TOP = {
    "model.embed_tokens.weight": "tok_embeddings.weight",
    "model.norm.weight": "norm.weight",
    "lm_head.weight": "output.weight",
}
_GGUF_TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def random_llama(**settings: Any) -> LlamaForCausalLM:
    """Return a tiny model, large in its weights so that differences show."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        "vocab_size": 96,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
    }
    model = LlamaForCausalLM(LlamaConfig(**(defaults | settings))).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return model


def reference_logits(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Return transformers' logits of every id."""
    with torch.inference_mode():
        logits: torch.Tensor = model(ids[None]).logits[0]
    return logits


def save_as_gguf(model: LlamaForCausalLM, path: Path, kind: GGMLQuantizationType) -> None:
    """Write the model as llama.cpp's converter does; its own weights are rounded to what the file can hold."""
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_token_list([f"token {index}" for index in range(config.vocab_size)])
    if config.rope_parameters["rope_type"] == "llama3":
        inverse = 1.0 / config.rope_parameters["rope_theta"] ** (
            np.arange(0, config.head_dim, 2, dtype=np.float32) / config.head_dim
        )
        scaled = model.model.rotary_emb.inv_freq.numpy()
        writer.add_tensor("rope_freqs.weight", (inverse / scaled).astype(np.float32))
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    for name, weight in model.state_dict().items():
        if name not in tied:
            _add_tensor(writer, name, weight, config, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tensor(
    writer: GGUFWriter, name: str, weight: torch.Tensor, config: LlamaConfig, kind: GGMLQuantizationType
) -> None:
    kind = kind if weight.ndim == 2 else GGMLQuantizationType.F32
    rows = packed(weight.numpy(), kind)
    weight.copy_(torch.from_numpy(unpacked(rows, kind)))
    writer.add_tensor(_gguf_name(name), _pairs_rotated(name, rows, config), raw_dtype=kind)


def save_as_meta(
    model: LlamaForCausalLM,
    folder: Path,
    *,
    num_files: int = 1,
    embedding_axis: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write the model as Meta publishes one: `params.json` and a part of every matrix in each file.

    Llama 3 has the embedding split by its tokens, Llama 2 by its columns.
    """
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(_meta_params(model.config)))
    parts: list[dict[str, torch.Tensor]] = [{} for _ in range(num_files)]
    for name, weight in model.state_dict().items():
        rows = torch.from_numpy(_pairs_rotated(name, weight.numpy(), model.config)).to(dtype)
        for part, piece in zip(parts, _meta_pieces(name, rows, num_files, embedding_axis), strict=True):
            part[_meta_name(name)] = piece.clone()
    for index, part in enumerate(parts):
        torch.save(part, folder / f"consolidated.{index:02d}.pth")
    return folder


def _meta_params(config: LlamaConfig) -> dict[str, Any]:
    params: dict[str, Any] = {
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads,
        "vocab_size": config.vocab_size,
        "ffn_dim_multiplier": 0.5,  # 8 / 3 of the dimension are 170, half of that is 85
        "multiple_of": 32,  # which makes 96
        "norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_parameters["rope_theta"],
    }
    scaled = config.rope_parameters["rope_type"] == "llama3"
    return params | {"use_scaled_rope": True} if scaled else params


def _meta_pieces(
    name: str, rows: torch.Tensor, num_files: int, embedding_axis: int
) -> tuple[torch.Tensor, ...]:
    if rows.ndim == 1:
        return (rows,) * num_files
    by_column = name.endswith(("o_proj.weight", "down_proj.weight"))
    axis = embedding_axis if "embed" in name else 1 if by_column else 0
    return rows.chunk(num_files, dim=axis)


def _pairs_rotated(name: str, rows: np.ndarray[Any, Any], config: LlamaConfig) -> np.ndarray[Any, Any]:
    """Return a weight as Meta and llama.cpp order it: rows that are rotated together are neighbours."""
    if name.endswith("q_proj.weight"):
        return _permute(rows, config.num_attention_heads)
    if name.endswith("k_proj.weight"):
        return _permute(rows, config.num_key_value_heads)
    return rows


def _permute(weight: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    # https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py: LlamaModel.permute
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def _gguf_name(name: str) -> str:
    if name in _GGUF_TOP:
        return _GGUF_TOP[name]
    _, _, index, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{index}.{_GGUF_LAYER[part]}.weight"


def _meta_name(name: str) -> str:
    if name in _META_TOP:
        return _META_TOP[name]
    _, _, index, part = name.removesuffix(".weight").split(".", 3)
    return f"layers.{index}.{_META_LAYER[part]}.weight"

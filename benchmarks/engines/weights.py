"""One set of weights in the formats that the engines read. Written once, from what the embedded GGUF dequantises to."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize
from safetensors.torch import save_file

from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.config import ModelConfig
from agentkit.inference.tokenizer import load_tokenizer
from agentkit.inference.tokenizer_sources import tokenizer_json

_FILE_TYPES = {
    GGMLQuantizationType.F32: LlamaFileType.ALL_F32,
    GGMLQuantizationType.Q8_0: LlamaFileType.MOSTLY_Q8_0,
}


def once(path: Path, write: Callable[[Path], None]) -> Path:
    """Return a file or folder, written first where it is missing; it appears only when it is whole."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    write(unfinished)
    return unfinished.rename(path)


def write_gguf(source: Path, path: Path, kind: GGMLQuantizationType) -> None:
    """Write a GGUF file again, with the same metadata and its matrices as `kind`; vectors stay in fp32."""
    reader = GGUFReader(source)
    writer = GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue  # the writer's own
        of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=of)
    writer.add_file_type(_FILE_TYPES[kind])
    for tensor in reader.tensors:
        values = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        stored_as = kind if values.ndim == 2 else GGMLQuantizationType.F32
        writer.add_tensor(tensor.name, quantize(values, stored_as), raw_dtype=stored_as)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors(source: Path, folder: Path) -> None:
    """Write a checkpoint as a folder for transformers, in fp32 and without a tokenizer."""
    folder.mkdir()
    checkpoint = load_checkpoint(source)
    save_file(checkpoint.tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(_hf_config(checkpoint.config), indent=2))


def write_served(source: Path, weights: Path, folder: Path) -> None:
    """Write a checkpoint as a folder for a model server: the weights' folder, and the tokenizer of a GGUF file."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        os.link(weights / name, folder / name)
    tokenizer = load_tokenizer(source)
    names = {token_id: name for name, token_id in tokenizer.special_ids.items()}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None if tokenizer.bos_id is None else names[tokenizer.bos_id],
        "eos_token": names[max(tokenizer.eos_ids)],
        "chat_template": tokenizer.chat_template,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(source)))


def _hf_config(config: ModelConfig) -> dict[str, object]:
    if config.rope_scaling is not None:
        raise ValueError(f"a model with scaled positions is not written: {config.rope_scaling}")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": config.context_length,
        "tie_word_embeddings": config.tie_embeddings,
    }

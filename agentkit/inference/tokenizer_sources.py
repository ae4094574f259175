"""Where a tokenizer comes from: `tokenizer.json`, GGUF metadata or a tiktoken `tokenizer.model` -> its parts.

Byte-level BPE only (Llama 3, SmolLM2, GPT-2). Knows no prompts and does not decode.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tiktoken

from agentkit.errors import ModelLoadError
from agentkit.inference.gguf_header import read_gguf_header
from agentkit.inference.tokenizer_parts import TokenizerParts, byte_level_parts, require_byte_level, sha256_of

# https://github.com/meta-llama/llama-models/blob/main/models/llama3/tokenizer.py
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_NAMED_SPECIALS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|image|>",
)
_LLAMA3_NUM_SPECIALS = 256
_LLAMA3_NUM_WORDS = 128_000
_LLAMA3_MAX_ENCODE_CHARS = 400_000  # the original's: tiktoken's splitter aborts on a million spaces

# A GGUF names one end id; models that end a turn otherwise are known by these tokens, as in llama.cpp.
_GGUF_END_TOKENS = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end_of_text|>", "<|endoftext|>")
_GGUF_CONTROL, _GGUF_USER_DEFINED = 3, 4
_AS_SPELT = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_LLAMA3_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated", "invert": False},
        {**_BYTE_LEVEL, "use_regex": False},
    ],
}
_SINGLE_DIGITS_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
}
# `tokenizer.ggml.pre` -> what splits text before BPE; llama.cpp's names for the originals' pre-tokenizers.
_GGUF_PRE_TOKENIZERS: Mapping[str, Mapping[str, Any]] = {
    "default": _BYTE_LEVEL,
    "gpt-2": _BYTE_LEVEL,
    "smollm": _SINGLE_DIGITS_PRE_TOKENIZER,
    "llama-bpe": _LLAMA3_PRE_TOKENIZER,
    "llama-v3": _LLAMA3_PRE_TOKENIZER,
    "llama3": _LLAMA3_PRE_TOKENIZER,
}


def read_tokenizer_parts(path: Path) -> TokenizerParts:
    """Read the tokenizer of a checkpoint: a folder or a .gguf file.

    Raises:
        ModelLoadError: if there is none, it is corrupt, or it is not byte-level BPE.
    """
    if path.is_file() and path.suffix.lower() == ".gguf":
        read, source = _from_gguf, path
    elif (path / "tokenizer.json").is_file():
        read, source = _from_tokenizer_json, path / "tokenizer.json"
    elif (path / "tokenizer.model").is_file():
        read, source = _from_tiktoken, path / "tokenizer.model"
    else:
        raise ModelLoadError(
            f"no tokenizer at {path}: expected a .gguf file, a tokenizer.json or a tokenizer.model"
        )
    try:
        return read(source)
    except ModelLoadError as exc:
        raise ModelLoadError(f"{source}: {exc}") from exc
    except Exception as exc:  # the libraries raise what they like on a corrupt file
        reason = str(exc).splitlines()[0][:200] if str(exc) else type(exc).__name__
        raise ModelLoadError(f"{source} is not a readable tokenizer: {reason}") from exc


def _from_tokenizer_json(path: Path) -> TokenizerParts:
    definition = _read_json(path)
    require_byte_level(definition)
    folder = path.parent
    settings = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    added = {int(token["id"]): token for token in definition.get("added_tokens", ())}
    for token_id, token in settings.get("added_tokens_decoder", {}).items():
        added.setdefault(int(token_id), token)
    ids = {token["content"]: token_id for token_id, token in added.items()}
    vocabulary = definition["model"]["vocab"]

    def id_of(setting: str) -> int | None:
        token = settings.get(setting)
        content = token["content"] if isinstance(token, dict) else token
        token_id: int | None = ids.get(content, vocabulary.get(content))
        return token_id

    eos_ids = set(_id_list(_read_json(folder / "generation_config.json").get("eos_token_id")))
    eos_ids.update(_id_list(_read_json(folder / "config.json").get("eos_token_id")))
    eos_ids.update(_id_list(id_of("eos_token")))
    return byte_level_parts(
        definition,
        added_ids=ids,
        control_ids=frozenset(token_id for token_id, token in added.items() if token.get("special", False)),
        bos_id=id_of("bos_token"),
        eos_ids=frozenset(eos_ids),
        chat_template=_folder_chat_template(folder, settings),
    )


def tokenizer_json(gguf: Path) -> dict[str, Any]:
    """Return what a tokenizer.json of a .gguf file's vocabulary says.

    Raises:
        ModelLoadError: if the vocabulary is of a kind we cannot read.
    """
    metadata = _gguf_metadata(gguf)
    model, split = metadata.get("ggml.model"), metadata.get("ggml.pre") or "default"
    if model != "gpt2":
        raise ModelLoadError(
            f"the vocabulary is of kind {model!r}; only byte-level BPE ('gpt2') is supported"
        )
    if split not in _GGUF_PRE_TOKENIZERS:
        raise ModelLoadError(f"unknown pre-tokenizer {split!r}; known: {', '.join(_GGUF_PRE_TOKENIZERS)}")
    tokens: list[str] = metadata["ggml.tokens"]
    kinds: list[int] = metadata.get("ggml.token_type") or [1] * len(tokens)
    added = {i for i, kind in enumerate(kinds) if kind in (_GGUF_CONTROL, _GGUF_USER_DEFINED)}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": tokens[i], "special": kinds[i] == _GGUF_CONTROL, **_AS_SPELT}
            for i in sorted(added)
        ],
        "normalizer": None,
        "pre_tokenizer": _GGUF_PRE_TOKENIZERS[split],
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": metadata.get("ggml.merges"),
            # Llama 3 takes a word that is in its vocabulary whole, even where no merges lead to it.
            "ignore_merges": _GGUF_PRE_TOKENIZERS[split] is _LLAMA3_PRE_TOKENIZER,
        },
    }


def _from_gguf(path: Path) -> TokenizerParts:
    metadata = _gguf_metadata(path)
    definition = tokenizer_json(path)
    added = definition.pop("added_tokens")
    added_ids = {token["content"]: token["id"] for token in added}
    eos_ids = {added_ids[token] for token in _GGUF_END_TOKENS if token in added_ids}
    for key in ("ggml.eos_token_id", "ggml.eot_token_id", "ggml.eom_token_id"):
        eos_ids.update(_id_list(metadata.get(key)))
    return byte_level_parts(
        definition,
        added_ids=added_ids,
        control_ids=frozenset(token["id"] for token in added if token["special"]),
        bos_id=metadata.get("ggml.bos_token_id"),
        eos_ids=frozenset(eos_ids),
        chat_template=metadata.get("chat_template"),
    )


def _gguf_metadata(path: Path) -> dict[str, Any]:
    """Return what a .gguf file says of its tokenizer, without the `tokenizer.` before each key."""
    metadata = read_gguf_header(path, wanted=lambda key: key.startswith("tokenizer.")).metadata
    return {key.removeprefix("tokenizer."): value for key, value in metadata.items()}


def _from_tiktoken(path: Path) -> TokenizerParts:
    ranks: dict[bytes, int] = {}
    for line in path.read_bytes().splitlines():
        token, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (binascii.Error, ValueError) as exc:
            raise ModelLoadError("not a tiktoken vocabulary (lines of base64 and rank)") from exc
    # The ids of the special tokens follow from the number of words, so a short file would shift them.
    if sorted(ranks.values()) != list(range(_LLAMA3_NUM_WORDS)):
        raise ModelLoadError(
            f"it has {len(ranks)} tokens, Llama 3 has {_LLAMA3_NUM_WORDS}: truncated, or of another model"
        )
    num_reserved = _LLAMA3_NUM_SPECIALS - len(_LLAMA3_NAMED_SPECIALS)
    specials = (
        *_LLAMA3_NAMED_SPECIALS,
        *(f"<|reserved_special_token_{2 + i}|>" for i in range(num_reserved)),
    )
    added_ids = {special: len(ranks) + i for i, special in enumerate(specials)}
    encoding = tiktoken.Encoding(
        name=path.name, pat_str=LLAMA3_SPLIT, mergeable_ranks=ranks, special_tokens=added_ids
    )
    words = sorted(ranks, key=lambda token: ranks[token])

    def encode(text: str) -> list[int]:
        ids: list[int] = []
        for start in range(0, len(text), _LLAMA3_MAX_ENCODE_CHARS):
            ids += encoding.encode_ordinary(text[start : start + _LLAMA3_MAX_ENCODE_CHARS])
        return ids

    return TokenizerParts(
        encode=encode,
        token_bytes=(*words, *(special.encode() for special in specials)),
        added_ids=added_ids,
        control_ids=frozenset(added_ids.values()),
        bos_id=added_ids["<|begin_of_text|>"],
        eos_ids=frozenset(added_ids[token] for token in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")),
        chat_template=None,
        fingerprint=sha256_of(LLAMA3_SPLIT.encode(), *words, *(special.encode() for special in specials)),
    )


def _folder_chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default")
    return template


def _id_list(value: int | Iterable[int] | None) -> list[int]:
    if value is None:
        return []
    return [int(value)] if isinstance(value, int) else [int(item) for item in value]


def _read_json(path: Path) -> dict[str, Any]:
    """Return the file's object, empty when there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise ModelLoadError(f"{path.name} is not JSON ({exc})") from exc
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path.name} is not a JSON object")
    return content

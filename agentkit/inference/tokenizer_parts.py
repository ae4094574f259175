"""What a tokenizer is made of, and how byte-level BPE is built so that no text reaches its added tokens.

Knows no files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tokenizers

from agentkit.errors import ModelLoadError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerParts:
    """What a tokenizer is made of.

    `encode` recognises no added token. `token_bytes[id]` is what an id stands for, empty for an unused id.
    `added_ids` are the tokens that are not reached by BPE; `control_ids` are those of them without text.
    """

    encode: Callable[[str], list[int]]
    token_bytes: tuple[bytes, ...]
    added_ids: Mapping[str, int]
    control_ids: frozenset[int]
    bos_id: int | None
    eos_ids: frozenset[int]
    chat_template: str | None
    fingerprint: str

    def __post_init__(self) -> None:
        if not self.eos_ids:
            raise ModelLoadError("the tokenizer names no token that ends a text (eos_token_id)")
        for token_id in (*self.eos_ids, *(() if self.bos_id is None else (self.bos_id,))):
            if not 0 <= token_id < len(self.token_bytes):
                raise ModelLoadError(
                    f"the tokenizer names the id {token_id}, its vocabulary has {len(self.token_bytes)}"
                )


def byte_level_parts(
    definition: dict[str, Any],
    *,
    added_ids: Mapping[str, int],
    control_ids: frozenset[int],
    bos_id: int | None,
    eos_ids: frozenset[int],
    chat_template: str | None,
) -> TokenizerParts:
    """Build the parts from a `tokenizer.json` definition whose added tokens are given apart.

    Raises:
        ModelLoadError: if it is not byte-level BPE.
    """
    require_byte_level(definition)
    model = definition["model"]
    # Without its added tokens the encoder cannot produce them from text, whatever the text says.
    added = frozenset(added_ids.values())
    vocabulary = {token: token_id for token, token_id in model["vocab"].items() if token_id not in added}
    encoder_definition = {
        **definition,
        "added_tokens": [],
        "post_processor": None,
        "truncation": None,
        "padding": None,
        "model": {**model, "vocab": vocabulary, "unk_token": None},
    }
    encoder = tokenizers.Tokenizer.from_str(json.dumps(encoder_definition))
    token_bytes = [b""] * (max((*vocabulary.values(), *added)) + 1)
    byte_of = _byte_of_character()
    for token, token_id in vocabulary.items():
        token_bytes[token_id] = _bytes_of(token, byte_of)
    for token, token_id in added_ids.items():
        token_bytes[token_id] = token.encode()

    def encode(text: str) -> list[int]:
        ids: list[int] = encoder.encode(text, add_special_tokens=False).ids
        return ids

    return TokenizerParts(
        encode=encode,
        token_bytes=tuple(token_bytes),
        added_ids=dict(added_ids),
        control_ids=control_ids,
        bos_id=bos_id,
        eos_ids=eos_ids,
        chat_template=chat_template,
        fingerprint=sha256_of(
            json.dumps([encoder_definition, dict(added_ids), sorted(control_ids)], sort_keys=True).encode()
        ),
    )


def require_byte_level(definition: Mapping[str, Any]) -> None:
    """Check the kind of a `tokenizer.json` definition.

    Raises:
        ModelLoadError: if it is not byte-level BPE.
    """
    model, decoder = definition.get("model") or {}, definition.get("decoder") or {}
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind != "BPE" or decoder.get("type") != "ByteLevel":
        raise ModelLoadError(
            f"its model is {kind} and its decoder {decoder.get('type')}; only byte-level BPE is supported"
        )


def sha256_of(*chunks: bytes) -> str:
    """Return the digest of chunks and of where they end."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(len(chunk).to_bytes(8, "little") + chunk)
    return digest.hexdigest()


def _byte_of_character() -> dict[str, int]:
    """Return GPT-2's map from the printable characters of a byte-level vocabulary to their bytes."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def _bytes_of(token: str, byte_of: Mapping[str, int]) -> bytes:
    try:
        return bytes(byte_of[character] for character in token)
    except KeyError:
        return token.encode()

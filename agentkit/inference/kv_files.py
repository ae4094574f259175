"""Keys and values of a sequence in one safetensors file, with all that they depend on, checked before use.

Neither the ids nor the scope are in the file, only digests of them. Keys and values themselves reveal the text
and steer the model: keep the files as safe as the conversation. A digest finds damage, not a forger.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import save_file

from agentkit.errors import KVFileError

FORMAT = "agentkit-kv-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class KVContent:
    """Keys and values of the shape (num_layers, num_kv_heads, tokens, head_dim), and what they were computed from.

    `identity` is that of the cache: model, dtype, rotary positions. `ids` are as many as there are tokens.
    """

    identity: str
    scope: str
    ids: tuple[int, ...]
    keys: torch.Tensor
    values: torch.Tensor


def save_kv_file(path: Path, content: KVContent) -> None:
    """Write a file under a name of its own and then put it in place: a reader sees the old one or the new one.

    Raises:
        KVFileError: if it cannot be written.
    """
    keys, values = content.keys.cpu().contiguous(), content.values.cpu().contiguous()
    metadata = {
        "format": FORMAT,
        "identity": content.identity,
        "scope": _digest(content.scope.encode()),
        "tokens": str(len(content.ids)),
        "ids": _digest_of_ids(content.ids),
        "content": _digest_of_tensors(keys, values),
    }
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        try:
            save_file({"keys": keys, "values": values}, temporary, metadata=metadata)
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, safetensors.SafetensorError) as error:
        raise KVFileError(f"the KV file {path.name} cannot be written: {error}") from error


def load_kv_file(
    path: Path, ids: Sequence[int], *, identity: str, scope: str, like: torch.Tensor
) -> KVContent:
    """Read a file that holds the beginning of `ids`: keys and values as in `like`, but for the number of tokens.

    Raises:
        KVFileError: if it is missing, damaged, or was written for another model, scope or sequence.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tokens = _checked_tokens(path, metadata, ids, identity=identity, scope=scope)
            keys, values = file.get_tensor("keys"), file.get_tensor("values")
    except (OSError, safetensors.SafetensorError) as error:
        raise KVFileError(f"the KV file {path.name} cannot be read: {error}") from error
    expected = (*like.shape[:2], tokens, like.shape[3])
    if {tuple(keys.shape), tuple(values.shape)} != {expected} or {keys.dtype, values.dtype} != {like.dtype}:
        raise KVFileError(
            f"the KV file {path.name} is damaged: its tensors are no {like.dtype} of the shape {expected}"
        )
    if metadata["content"] != _digest_of_tensors(keys, values):
        raise KVFileError(f"the KV file {path.name} is damaged: its content has another digest than it says")
    return KVContent(identity=identity, scope=scope, ids=tuple(ids[:tokens]), keys=keys, values=values)


def _checked_tokens(
    path: Path, metadata: dict[str, str], ids: Sequence[int], *, identity: str, scope: str
) -> int:
    """Return how many of the ids the file holds, once everything but its content is as expected."""
    if metadata.get("format") != FORMAT:
        raise KVFileError(
            f"the KV file {path.name} has the format {metadata.get('format')!r}, not {FORMAT!r}"
        )
    if metadata.get("identity") != identity:
        raise KVFileError(f"the KV file {path.name} was written for another model, dtype or rotary positions")
    if metadata.get("scope") != _digest(scope.encode()):
        raise KVFileError(f"the KV file {path.name} belongs to another scope")
    count = metadata.get("tokens", "")
    tokens = int(count) if count.isascii() and count.isdecimal() else 0
    if not 0 < tokens <= len(ids) or metadata.get("ids") != _digest_of_ids(ids[:tokens]):
        raise KVFileError(f"the KV file {path.name} was written for other ids than these {len(ids)}")
    if "content" not in metadata:
        raise KVFileError(f"the KV file {path.name} is damaged: it has no digest of its content")
    return tokens


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of_ids(ids: Sequence[int]) -> str:
    return _digest(np.asarray(ids, dtype="<i8").tobytes())


def _digest_of_tensors(*tensors: torch.Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Have the content on the disk before its name is."""
    with path.open("rb") as file:
        os.fsync(file.fileno())

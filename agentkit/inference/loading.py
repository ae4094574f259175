"""What an engine is made of: a model and its tokenizer from a reference, and a pool that fits both and the machine."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from agentkit.errors import ConfigurationError, ModelLoadError
from agentkit.inference.catalog import ResolvedModel, resolve
from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.config import EngineConfig, WeightType
from agentkit.inference.failures import is_out_of_memory
from agentkit.inference.kv_host import HostTier
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.model import LlamaModel
from agentkit.inference.runner import DecodeRunner
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer

HOST_KV_BYTES = 2 << 30
"""Host memory behind the pool of a GPU, where the configuration does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model on its device; the fingerprint is that of its checkpoint and its tokenizer."""

    name: str
    model: LlamaModel
    tokenizer: Tokenizer
    fingerprint: str


def load_model(reference: str, config: EngineConfig) -> LoadedModel:
    """Find a checkpoint and load it onto the device.

    Raises:
        ConfigurationError: if the device cannot be used here.
        ModelLoadError: if the reference names nothing, or its checkpoint cannot be loaded.
    """
    device = _device(config)
    resolved = resolve(reference)
    tokenizer = load_tokenizer(resolved.path)
    model, fingerprint = _load_weights(resolved, device, kept_types(config, device))
    digest = hashlib.sha256(f"{fingerprint} {tokenizer.fingerprint}".encode()).hexdigest()
    return LoadedModel(name=resolved.name, model=model, tokenizer=tokenizer, fingerprint=digest)


def new_pool(config: EngineConfig, model: LlamaModel) -> PagePool:
    """Return a pool of `kv_cache_bytes`.

    Raises:
        ConfigurationError: if that is no page, or more than the device has.
    """
    page_bytes = model.page_bytes(config.page_tokens)
    num_pages = config.kv_cache_bytes // page_bytes
    if num_pages == 0:
        raise ConfigurationError(
            f"kv_cache_bytes is {config.kv_cache_bytes}, one page of {config.page_tokens} tokens takes "
            f"{page_bytes}; give it room for many"
        )
    try:
        return model.new_pool(num_pages, config.page_tokens)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigurationError(
            f"kv_cache_bytes is {config.kv_cache_bytes}, which {model.device} has no memory for"
        ) from error


def new_host_tier(config: EngineConfig, pool: PagePool, identity: str) -> HostTier | None:
    """Return `host_kv_bytes` of host memory behind the pool of a GPU; None behind that of a CPU, or where it is 0.

    Raises:
        ConfigurationError: if the pool is in host memory already, or that is no page, or more than can be had.
    """
    device = pool.keys.device
    wanted = config.host_kv_bytes
    if device.type == "cpu":
        if wanted:
            raise ConfigurationError(
                f"host_kv_bytes is {wanted}, but on {device} the KV cache is in host memory already; "
                "raise kv_cache_bytes instead"
            )
        return None
    num_bytes = HOST_KV_BYTES if wanted is None else wanted
    if num_bytes == 0:
        return None
    if num_bytes < pool.page_bytes:
        raise ConfigurationError(
            f"host_kv_bytes is {num_bytes}, one page of {pool.page_tokens} tokens takes {pool.page_bytes}; "
            "give it room for many, or 0"
        )
    try:
        return HostTier(pool, identity, num_pages=num_bytes // pool.page_bytes)
    except (MemoryError, RuntimeError) as error:
        raise ConfigurationError(
            f"host_kv_bytes is {num_bytes}, which cannot be pinned here; set a smaller one, or 0"
        ) from error


def new_runner(model: LlamaModel, pool: PagePool) -> DecodeRunner | None:
    """Return what decodes on a GPU; on a CPU, the model does by itself.

    Raises:
        ConfigurationError: if the kernels' compiler is missing.
    """
    if model.device.type != "cuda":
        return None
    try:
        from agentkit.inference.cuda_graphs import GraphRunner
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{model.device} needs the package {error.name!r}; install it, or use the device 'cpu'"
        ) from error
    return GraphRunner(model, pool)


def cache_identity(fingerprint: str | None, model: LlamaModel) -> str:
    """Return a digest of all that keys and values depend on, besides the ids.

    A model whose fingerprint is not known is like no other: nothing saved by another engine fits it.
    """
    known = secrets.token_hex() if fingerprint is None else fingerprint
    types = f"{model.weight_dtype} {model.dtype} {model.kv_dtype}"
    # The configuration includes that of the rotary positions.
    return hashlib.sha256(f"{known} {types} {model.config}".encode()).hexdigest()


def context_length(config: EngineConfig, model: LlamaModel) -> int:
    """Return the configured context, or the model's.

    Raises:
        ConfigurationError: if the configured one is longer.
    """
    longest = model.config.context_length
    if config.context_length is None:
        return longest
    if config.context_length > longest:
        raise ConfigurationError(f"context_length is {config.context_length}, the model's is {longest}")
    return config.context_length


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTypes:
    """In which types a model is kept and computes: `hidden` is that of what goes from layer to layer."""

    weights: WeightType
    hidden: torch.dtype
    kv: torch.dtype


def kept_types(config: EngineConfig, device: torch.device) -> KeptTypes:
    """Return the types that a configuration means on a device.

    Raises:
        ConfigurationError: if the device has no use for them.
    """
    if device.type == "cpu":
        if config.weights == "int4":
            raise ConfigurationError("weights='int4' is for a GPU, the device is 'cpu'; use 'int8' there")
        # Whatever the weights are kept in: a CPU computes in fp32.
        kv = getattr(torch, config.kv_dtype or "float32")
        return KeptTypes(weights=config.weights or "float32", hidden=torch.float32, kv=kv)
    # A GPU's matrix units multiply bf16, and decoding is as fast as the weights are small.
    weights = config.weights or ("bfloat16" if device.type == "cuda" else "float32")
    if weights in ("int8", "int4") and device.type != "cuda":
        raise ConfigurationError(
            f"weights={weights!r} has no kernels for the device {device}; use 'bfloat16' there"
        )
    computed = "float32" if weights == "float32" else "bfloat16"
    if config.kv_dtype not in (None, computed):
        raise ConfigurationError(
            f"kv_dtype is {config.kv_dtype!r} and the weights are {weights!r}; on {device} it must be {computed!r}"
        )
    hidden = getattr(torch, computed)
    return KeptTypes(weights=weights, hidden=hidden, kv=hidden)


class _HandedOver(Mapping[str, torch.Tensor]):
    """Tensors that move to a device when they are looked up, once each: none is held in two places for longer."""

    def __init__(self, tensors: dict[str, torch.Tensor], device: torch.device, dtype: torch.dtype) -> None:
        self._tensors = tensors
        self._device = device
        self._dtype = dtype

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors.pop(name).to(self._device, self._dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _load_weights(resolved: ResolvedModel, device: torch.device, types: KeptTypes) -> tuple[LlamaModel, str]:
    """Return the model on the device and the fingerprint of its checkpoint."""
    try:
        checkpoint = load_checkpoint(resolved.path)
        tensors = _HandedOver(checkpoint.tensors, device, types.hidden)
        model = LlamaModel(checkpoint.config, tensors, weights=types.weights, kv_dtype=types.kv)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelLoadError(f"{resolved.name} does not fit into the memory of {device}") from error
    return model, checkpoint.fingerprint


def _device(config: EngineConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=config.device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"device {config.device!r} cannot be used here; use 'auto' or 'cpu'"
        ) from error

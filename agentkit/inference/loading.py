"""What an engine is made of: a model and its tokenizer from a reference, and a pool that fits both and the machine."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import torch

from agentkit.errors import ConfigurationError, ModelLoadError
from agentkit.inference.catalog import ResolvedModel, resolve
from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.config import EngineConfig
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.model import LlamaModel
from agentkit.inference.scheduler import is_out_of_memory
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer


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
    model, fingerprint = _load_weights(resolved, device, config)
    model.forward(torch.zeros(1, dtype=torch.int64), model.new_buffer(1))  # compiles what is not compiled yet
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


def _load_weights(
    resolved: ResolvedModel, device: torch.device, config: EngineConfig
) -> tuple[LlamaModel, str]:
    """Return the model on the device and the fingerprint of its checkpoint."""
    if config.weights == "int8" and device.type != "cpu":
        raise ConfigurationError(f"weights='int8' is for the CPU, the device is {device}; use 'bfloat16'")
    # A CPU computes in fp32 whatever the weights are kept in; an accelerator in the type of the weights.
    dtype = torch.float32 if device.type == "cpu" else getattr(torch, config.weights)
    kv_dtype = None if config.kv_dtype is None else getattr(torch, config.kv_dtype)
    try:
        checkpoint = load_checkpoint(resolved.path)
        tensors = {name: tensor.to(device, dtype) for name, tensor in checkpoint.tensors.items()}
        return (
            LlamaModel(checkpoint.config, tensors, weights=config.weights, kv_dtype=kv_dtype),
            checkpoint.fingerprint,
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelLoadError(f"{resolved.name} does not fit into the memory of {device}") from error


def _device(config: EngineConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=config.device).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"device {config.device!r} cannot be used here; use 'auto' or 'cpu'"
        ) from error

"""A model as a server was found to serve it: its tokenizer, its context, and how to ask. Generates nothing."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from agentkit.errors import ConfigurationError
from agentkit.inference.base import Priority
from agentkit.inference.bounds import Bounds
from agentkit.inference.catalog import resolve_tokenizer
from agentkit.inference.remote_capabilities import Capabilities, find_capabilities
from agentkit.inference.remote_faults import retrying
from agentkit.inference.remote_server import ModelServer
from agentkit.inference.remote_wire import IdWire, TextWire, Wire
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A model on a server."""

    name: str
    capabilities: Capabilities
    tokenizer: Tokenizer
    wire: Wire
    bounds: Bounds

    def options(self, priority: Priority, scope: str) -> dict[str, Any]:
        """Return what every request says beside its prompt, in so far as the server knows it."""
        options: dict[str, Any] = {"model": self.name}
        if self.capabilities.priority:
            options["priority"] = int(priority)
        if self.capabilities.scopes and scope:
            # A digest: who a tenant is, is not the server's business.
            options["cache_salt"] = hashlib.sha256(f"agentkit scope {scope}".encode()).hexdigest()
        return options


async def find_model(
    server: ModelServer,
    name: str,
    *,
    tokenizer: Tokenizer | str | Path,
    context_length: int | None,
    retry_seconds: float,
) -> RemoteModel:
    """Ask a server about a model; what it cannot do is logged as a warning.

    Raises:
        ConfigurationError: if the server does not serve the model, tokenizes otherwise, or has too short a context.
        ModelLoadError: if there is no tokenizer.
        InferenceError: if the server cannot be asked.
    """
    known = await _loaded(tokenizer)
    capabilities = await retrying(lambda: find_capabilities(server, name, known), seconds=retry_seconds)
    for missing in capabilities.missing:
        logger.warning("%s lacks %s", server, missing)
    context = _context_length(server, wanted=context_length, served=capabilities.context_length)
    return RemoteModel(
        name=name,
        capabilities=capabilities,
        tokenizer=known,
        wire=IdWire() if capabilities.token_ids else TextWire(known),
        bounds=Bounds(vocab_size=known.vocab_size, num_layers=0, model_context=context, pool_tokens=context),
    )


async def _loaded(tokenizer: Tokenizer | str | Path) -> Tokenizer:
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    return await anyio.to_thread.run_sync(lambda: load_tokenizer(resolve_tokenizer(str(tokenizer))))


def _context_length(server: ModelServer, *, wanted: int | None, served: int | None) -> int:
    """Return the wanted context, or the server's.

    Raises:
        ConfigurationError: if the wanted one is longer, or there is none.
    """
    context = wanted if wanted is not None else served
    if context is None:
        raise ConfigurationError(f"{server} does not say how long its context is; pass context_length=")
    if served is not None and context > served:
        raise ConfigurationError(f"context_length is {context}, {server} serves {served}")
    return context

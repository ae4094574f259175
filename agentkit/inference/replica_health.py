"""Asks a server whether it is well, by its `/health`. Knows no breaker and no model."""

from __future__ import annotations

from typing import Final

from agentkit.errors import RemoteError
from agentkit.inference.remote_server import ModelServer, RemoteTimeouts

# Servers answer this from their event loop: one that does not in time would not stream either.
_TIMEOUTS: Final = RemoteTimeouts(connect=2.0, first_token=2.0, next_token=2.0, retrying=0.0)


def health_of(url: str) -> ModelServer:
    """Return what to ask about a server's health."""
    return ModelServer(url, None, _TIMEOUTS)


async def is_healthy(health: ModelServer) -> bool:
    """Return whether the server answers, and not that it is broken; one without `/health` need only answer.

    Raises:
        InferenceError: if it is closed.
    """
    try:
        await health.get("/health")
    except RemoteError as error:  # also of an answer that is no JSON, such as vLLM's empty one
        return error.status is not None and error.status < 500
    return True

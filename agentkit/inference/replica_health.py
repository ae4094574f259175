"""Asks a server whether it is well, by its `/health`. Knows no breaker and no model."""

from __future__ import annotations

from typing import Final

import httpx

TIMEOUT: Final = 2.0
"""Seconds. Servers answer this from their event loop: one that does not in time would not stream either."""


async def is_healthy(client: httpx.AsyncClient, base_url: str) -> bool:
    """Return whether the server answers, and not that it is broken; one without `/health` need only answer."""
    address = httpx.URL(base_url).copy_with(path="/health", query=None)
    try:
        response = await client.get(address, timeout=TIMEOUT)
    except httpx.TransportError:
        return False
    return not response.is_server_error

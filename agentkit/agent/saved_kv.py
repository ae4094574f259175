"""The key-value pairs of sessions, kept in files between processes. Files are content: they go with their session."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import anyio

from agentkit.errors import InferenceError
from agentkit.inference.base import Engine
from agentkit.memory.rules import tenant_of


@runtime_checkable
class SupportsKVFiles(Protocol):
    """An engine that can write what it cached of a sequence to a file, and use it again."""

    async def save_kv(self, ids: Sequence[int], path: Path, *, scope: str = "") -> int:
        """Write what is cached of `ids`; return for how many tokens, 0 where nothing was written."""

    async def warm(self, ids: Sequence[int], path: Path, *, scope: str = "") -> object:
        """Have `ids` cached: from the file where it is good and loading is faster, else by computing them."""


class SavedKV:
    """One folder of files, a file a session. Without a folder, or an engine that can, nothing is kept."""

    def __init__(self, folder: Path | None, engine: Engine) -> None:
        self._folder = folder
        self._engine = engine if isinstance(engine, SupportsKVFiles) else None

    async def save(self, session_id: str, ids: Sequence[int]) -> None:
        """Keep what the engine has cached of a session's ids; a file that cannot be written is not kept."""
        if self._folder is None or self._engine is None or not ids:
            return
        path = kv_path(self._folder, session_id)
        try:
            await anyio.Path(path.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
            await self._engine.save_kv(ids, path, scope=tenant_of(session_id))
        except (InferenceError, OSError):
            await forget_kv(self._folder, session_id)  # the next process computes it again

    async def load(self, session_id: str, ids: Sequence[int]) -> None:
        """Warm the engine for a session that goes on, if there is a file of it."""
        if self._folder is None or self._engine is None or not ids:
            return
        path = kv_path(self._folder, session_id)
        if await anyio.Path(path).exists():
            await self._engine.warm(ids, path, scope=tenant_of(session_id))


def kv_path(folder: Path, session_id: str) -> Path:
    """Return where a session's file is: the names of tenants and sessions do not show."""
    return folder / _digest(tenant_of(session_id))[:16] / f"{_digest(session_id)[:32]}.safetensors"


async def forget_kv(folder: Path | None, session_id: str) -> None:
    """Delete a session's file, if there is one."""
    if folder is not None:
        await anyio.Path(kv_path(folder, session_id)).unlink(missing_ok=True)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()

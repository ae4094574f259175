"""Moves keys and values between the cache of a running engine and files. Knows no file format."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from agentkit.errors import KVFileError
from agentkit.inference.kv_cache import KVCache
from agentkit.inference.kv_files import KVContent, load_kv_file, save_kv_file
from agentkit.inference.speed import Speed
from agentkit.inference.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """How ids came to be cached. `problem` is why a file could not be used, where one was tried."""

    cached_tokens: int
    loaded_tokens: int
    computed_tokens: int
    problem: KVFileError | None


class SavedKV:
    """Copies in the worker's thread; digests, reads and writes files in others."""

    def __init__(self, worker: Worker, cache: KVCache) -> None:
        self._worker = worker
        self._cache = cache
        self.speed = Speed()  # of loading, in tokens

    async def save(self, ids: Sequence[int], path: Path, *, scope: str) -> int:
        """Write what is cached of the ids; return how many tokens that is. For none, no file is written.

        Raises:
            KVFileError: if the file cannot be written.
        """
        wanted = tuple(ids)
        keys, values = await self._worker.call(lambda: self._cache.read(wanted, scope=scope))
        saved = wanted[: keys.shape[2]]
        if saved:
            content = KVContent(
                identity=self._cache.identity, scope=scope, ids=saved, keys=keys, values=values
            )
            await anyio.to_thread.run_sync(save_kv_file, path, content)
        return len(saved)

    async def load(self, path: Path, ids: Sequence[int], *, scope: str) -> int:
        """Cache what a file holds of the ids; return how many of them are cached then.

        Raises:
            KVFileError: if the file is missing, damaged or foreign; nothing has changed then.
        """
        wanted, cache = tuple(ids), self._cache
        started_at = time.perf_counter()
        content = await anyio.to_thread.run_sync(
            lambda: load_kv_file(path, wanted, like=cache.pool.keys, identity=cache.identity, scope=scope)
        )
        await self._worker.call(lambda: cache.write(content.ids, content.keys, content.values, scope=scope))
        self.speed.measured(len(content.ids), time.perf_counter() - started_at)
        return await self.cached(wanted, scope=scope)

    async def cached(self, ids: Sequence[int], *, scope: str) -> int:
        """Return how many leading ids are cached."""
        return await self._worker.call(lambda: self._cache.matched_tokens(ids, scope=scope))

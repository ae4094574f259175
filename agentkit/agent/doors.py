"""The doors of the loop to the model: nothing but cleared content goes through. Knows no policy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, runtime_checkable

from agentkit.cleared import Cleared, require_cleared
from agentkit.inference.base import Engine, GeneratedToken, Grammar, Priority, SamplingParams


@runtime_checkable
class SupportsForget(Protocol):
    """An engine that can drop what it cached of a sequence."""

    async def forget(self, ids: Sequence[int], *, keep: int, scope: str = "") -> None:
        """Drop the cached key-value pairs of `ids` beyond the first `keep` tokens."""


@runtime_checkable
class SupportsPinning(Protocol):
    """An engine that can keep what it cached of a sequence while somebody waits."""

    def pinned(self, ids: Sequence[int], *, scope: str = "") -> AbstractAsyncContextManager[int]:
        """Keep what is cached of `ids` while the block runs."""


class GuardedEngine:
    """The agent's engine, with a door: it generates only after a cleared prompt."""

    def __init__(self, engine: Engine, *, scope: str) -> None:
        self._engine = engine
        self._scope = scope

    def generate(
        self, prompt: Cleared[tuple[int, ...]], params: SamplingParams, *, grammar: Grammar | None
    ) -> AsyncGenerator[GeneratedToken]:
        """Generate after a cleared prompt; otherwise as `Engine.generate`.

        Raises:
            TypeError: if the prompt was not cleared.
        """
        ids = require_cleared(prompt)
        return _closing(
            self._engine.generate(
                ids, params, grammar=grammar, priority=Priority.INTERACTIVE, scope=self._scope
            )
        )

    @asynccontextmanager
    async def pinned(self, ids: Sequence[int]) -> AsyncIterator[None]:
        """Keep what the engine cached of `ids` while the block runs, where it caches at all."""
        if isinstance(self._engine, SupportsPinning):
            async with self._engine.pinned(ids, scope=self._scope):
                yield
        else:
            yield

    async def forget(self, ids: tuple[int, ...], keep: int) -> None:
        """Drop what the engine cached of `ids` beyond `keep` tokens, where it caches at all."""
        if isinstance(self._engine, SupportsForget):
            await self._engine.forget(ids, keep=keep, scope=self._scope)


async def _closing(tokens: AsyncIterator[GeneratedToken]) -> AsyncGenerator[GeneratedToken]:
    """Pass the tokens on, and close what gives them, where it can be closed."""
    try:
        async for token in tokens:
            yield token
    finally:
        if isinstance(tokens, AsyncGenerator):
            await tokens.aclose()

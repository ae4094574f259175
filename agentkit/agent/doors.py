"""The doors of the loop to the model: nothing but cleared content goes through. Knows no policy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

from agentkit.cleared import Cleared, require_cleared
from agentkit.inference.base import Engine, GeneratedToken, Grammar, Priority, SamplingParams


@runtime_checkable
class SupportsForget(Protocol):
    """An engine that can drop what it cached of a sequence."""

    async def forget(self, ids: Sequence[int], *, keep: int, scope: str = "") -> None:
        """Drop the cached key-value pairs of `ids` beyond the first `keep` tokens."""


class GuardedEngine:
    """The agent's engine, with a door: it generates only after a cleared prompt."""

    def __init__(self, engine: Engine, *, scope: str) -> None:
        self._engine = engine
        self._scope = scope

    @property
    def context_length(self) -> int:
        """How many tokens a prompt and its output may have together."""
        return self._engine.context_length

    def generate(
        self, prompt: Cleared[tuple[int, ...]], params: SamplingParams, *, grammar: Grammar | None
    ) -> AsyncIterator[GeneratedToken]:
        """Generate after a cleared prompt; otherwise as `Engine.generate`.

        Raises:
            TypeError: if the prompt was not cleared.
        """
        return self._engine.generate(
            require_cleared(prompt), params, grammar=grammar, priority=Priority.INTERACTIVE, scope=self._scope
        )

    async def forget(self, ids: tuple[int, ...], keep: int) -> None:
        """Drop what the engine cached of `ids` beyond `keep` tokens, where it caches at all."""
        if isinstance(self._engine, SupportsForget):
            await self._engine.forget(ids, keep=keep, scope=self._scope)

"""The doors of the loop to the model: nothing but cleared content goes through, and comes back. Knows no policy."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import anyio

from agentkit.cleared import Cleared, Held, require_cleared, require_held
from agentkit.inference.base import Engine, GeneratedToken, Grammar, Observe, Priority, SamplingParams
from agentkit.inference.common_prefix import common_length, find_last
from agentkit.inference.probe_reader import ReadableEngine
from agentkit.shields.base import SharedStates


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


class Begun(Protocol):
    """A generation that goes on by itself."""

    @property
    def states(self) -> SharedStates | None:
        """The hidden states that it takes along, where that was asked for."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> GeneratedToken:
        """Return the next token, once there is one."""

    def cancel(self) -> None:
        """Stop; what was computed stays cached."""

    async def drop(self, *, keep: int) -> None:
        """Stop, and forget what was computed past the first `keep` ids."""


@runtime_checkable
class SupportsBeginning(Protocol):
    """An engine on this machine, which can compute before anybody waits for its tokens, and forget that it did."""

    def begin(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.INTERACTIVE,
        scope: str = "",
        public_prefix: int = 0,
        observe: Observe | None = None,
    ) -> Begun:
        """Begin to generate at once, and take the observed states along; otherwise as `Engine.generate`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """All that the tokens of a generation follow from."""

    ids: tuple[int, ...]
    params: SamplingParams
    grammar: Grammar | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """A generation that was begun while shields still judged; the first `cleared_tokens` of its ids were cleared."""

    asked: _Asked
    tokens: Begun
    cleared_tokens: int


class GuardedEngine:
    """The agent's engine, with a door: what it generates comes out only for a cleared prompt.

    Of a prompt, only what it shares with `public_ids` is declared public: what one tenant says stays its scope's.

    An engine on this machine may begin after a prompt that is held, and is asked again once that is cleared. Close it
    where a turn ends: what was begun and never asked for leaves nothing behind.
    """

    def __init__(self, engine: Engine, *, scope: str, public_ids: tuple[int, ...] = ()) -> None:
        self._engine = engine
        self._scope = scope
        self._public_ids = public_ids
        self._ahead: _Ahead | None = None

    def begin(
        self,
        prompt: Held[tuple[int, ...]],
        params: SamplingParams,
        *,
        grammar: Grammar | None,
        cleared_tokens: int,
        observed: Held[str] | None = None,
        layers: Sequence[int] = (),
    ) -> SharedStates | None:
        """Compute ahead what `generate` will be asked for, where the engine is on this machine.

        The first `cleared_tokens` of the prompt have been cleared before: the cache may keep them in any case. Returns
        what `layers` make of the text `observed`, where its ids are a part of the rest.

        Raises:
            TypeError: if the prompt or what is observed is not held.
            ContextLengthError, InferenceError: as `Engine.generate`.
        """
        ids = require_held(prompt)
        text = None if observed is None else require_held(observed)
        if self._ahead is not None or not isinstance(self._engine, SupportsBeginning):
            return None
        tokens = self._engine.begin(
            ids,
            params,
            grammar=grammar,
            priority=Priority.INTERACTIVE,
            scope=self._scope,
            public_prefix=common_length(ids, self._public_ids),
            observe=self._observe(ids, text, layers, start=cleared_tokens),
        )
        asked = _Asked(ids=ids, params=params, grammar=grammar)
        self._ahead = _Ahead(asked=asked, tokens=tokens, cleared_tokens=cleared_tokens)
        return tokens.states

    def _observe(
        self, ids: Sequence[int], text: str | None, layers: Sequence[int], *, start: int
    ) -> Observe | None:
        """Return where the text stands in the prompt, with those of the layers that this model has; None if nowhere."""
        if not text or not isinstance(self._engine, ReadableEngine):
            return None
        own = tuple(layer for layer in layers if layer <= self._engine.num_layers)
        part = self._engine.tokenizer.encode(text) if own else []
        place = find_last(ids, part, start=start)
        return None if place is None else Observe(start=place, stop=place + len(part), layers=own)

    def generate(
        self, prompt: Cleared[tuple[int, ...]], params: SamplingParams, *, grammar: Grammar | None
    ) -> AsyncGenerator[GeneratedToken]:
        """Generate after a cleared prompt; otherwise as `Engine.generate`.

        Raises:
            TypeError: if the prompt was not cleared.
        """
        return self._tokens(_Asked(ids=require_cleared(prompt), params=params, grammar=grammar))

    async def aclose(self) -> None:
        """Drop what was begun ahead and not asked for, with all that the engine computed of it."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            with anyio.CancelScope(shield=True):
                await ahead.tokens.drop(keep=ahead.cleared_tokens)

    async def _tokens(self, asked: _Asked) -> AsyncGenerator[GeneratedToken]:
        """Give the tokens of what was begun ahead, if it is what is asked for now; else begin."""
        if self._ahead is not None and self._ahead.asked == asked:
            begun, self._ahead = self._ahead.tokens, None
            try:
                async for token in begun:
                    yield token
            finally:
                begun.cancel()
            return
        await self.aclose()
        tokens = self._engine.generate(
            asked.ids,
            asked.params,
            grammar=asked.grammar,
            priority=Priority.INTERACTIVE,
            scope=self._scope,
            public_prefix=common_length(asked.ids, self._public_ids),
        )
        try:
            async for token in tokens:
                yield token
        finally:
            if isinstance(tokens, AsyncGenerator):
                await tokens.aclose()

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

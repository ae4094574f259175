"""Counts the tokens that shields prefill, although shields know no run: by a context variable around a verdict."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentkit.inference.base import Engine, GeneratedToken, Grammar, Priority, SamplingParams, Score
from agentkit.inference.probe_reader import ReadableEngine
from agentkit.inference.tokenizer import Tokenizer


@dataclass(slots=True)
class TokenCount:
    """Tokens prefilled since the count began."""

    tokens: int = 0


_count: ContextVar[TokenCount | None] = ContextVar("agentkit_shield_tokens", default=None)


@contextmanager
def counting_shield_tokens() -> Iterator[TokenCount]:
    """Count what metered engines prefill inside the block, in its tasks too."""
    count = TokenCount()
    token = _count.set(count)
    try:
        yield count
    finally:
        _count.reset(token)


class MeteredEngine:
    """An engine as shields see it: the same, and its prefilled tokens are counted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model's vocabulary."""
        return self._engine.tokenizer

    @property
    def context_length(self) -> int:
        """How many tokens a prompt and its output may have together."""
        return self._engine.context_length

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> AsyncIterator[GeneratedToken]:
        """Generate as the engine behind does."""
        async for token in self._engine.generate(
            prompt_ids, params, grammar=grammar, priority=priority, scope=scope, public_prefix=public_prefix
        ):
            if token.usage is not None:
                _add(token.usage.prefilled_tokens)
            yield token

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        """Score as the engine behind does."""
        score = await self._engine.score(
            prompt_ids, candidate_ids, priority=priority, scope=scope, public_prefix=public_prefix
        )
        _add(score.usage.prefilled_tokens)
        return score

    async def close(self) -> None:
        """Close the engine behind."""
        await self._engine.close()


class MeteredReadableEngine(MeteredEngine):
    """A metered engine that gives hidden states, for probes."""

    def __init__(self, engine: Engine, states: ReadableEngine) -> None:
        """Meter an engine; `states` is the same one, as what gives hidden states."""
        super().__init__(engine)
        self._states = states

    @property
    def fingerprint(self) -> str:
        """What tells the model from every other."""
        return self._states.fingerprint

    @property
    def num_layers(self) -> int:
        """How many layers the model has."""
        return self._states.num_layers

    async def early_states(
        self, ids: Sequence[int], layers: Sequence[int], *, priority: Priority = Priority.SHIELD
    ) -> NDArray[np.float32]:
        """Give the states that the engine behind does."""
        states = await self._states.early_states(ids, layers, priority=priority)
        _add(len(ids))
        return states


def metered(engine: Engine) -> MeteredEngine:
    """Return an engine as shields see it, with hidden states where it has them."""
    if isinstance(engine, ReadableEngine):
        return MeteredReadableEngine(engine, engine)
    return MeteredEngine(engine)


def _add(tokens: int) -> None:
    count = _count.get()
    if count is not None:
        count.tokens += tokens

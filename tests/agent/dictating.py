"""A real engine whose model says what it is told: a grammar that allows one text leaves it no other token."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import torch

from agentkit.errors import InferenceError
from agentkit.inference.base import GeneratedToken, Grammar, Observe, Priority, SamplingParams, Score
from agentkit.inference.begun import BegunGeneration
from agentkit.inference.config import EngineConfig, ModelConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.llama_tensors import expected_shapes
from agentkit.inference.model import LlamaModel
from agentkit.testing import byte_tokenizer

_CONFIG = ModelConfig(
    vocab_size=258,
    hidden_size=16,
    intermediate_size=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    context_length=8192,
    tie_embeddings=False,
)


def small_model() -> LlamaModel:
    """Return random weights for the byte tokenizer."""
    generator = torch.Generator().manual_seed(0)
    shapes = expected_shapes(_CONFIG).items()
    return LlamaModel(_CONFIG, {name: torch.randn(shape, generator=generator) for name, shape in shapes})


class DictatedEngine:
    """A `LocalEngine` with one token a byte, which says one reply a generation.

    `sequences` keeps the ids of every prompt and what is generated after it, with its scope. `begun` counts what was
    begun before anybody waited for it.
    """

    fingerprint = "dictated"

    def __init__(self, *replies: str) -> None:
        self.local = LocalEngine(
            small_model(), byte_tokenizer(), EngineConfig(page_tokens=1, kv_cache_bytes=1 << 22)
        )
        self.replies = list(replies)
        self.sequences: list[tuple[list[int], str]] = []
        self.prompts: list[str] = []
        self.begun = 0

    @property
    def tokenizer(self) -> Any:
        return self.local.tokenizer

    @property
    def context_length(self) -> int:
        return self.local.context_length

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.INTERACTIVE,
        scope: str = "",
        public_prefix: int = 0,
    ) -> AsyncGenerator[GeneratedToken, None]:
        dictated = self._dictated(prompt_ids, scope)
        async with aclosing(
            self.local.generate(
                prompt_ids,
                params,
                grammar=dictated,
                priority=priority,
                scope=scope,
                public_prefix=public_prefix,
            )
        ) as tokens:
            async for token in tokens:
                yield token

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
    ) -> BegunGeneration:
        dictated = self._dictated(prompt_ids, scope)
        self.begun += 1
        return self.local.begin(
            prompt_ids,
            params,
            grammar=dictated,
            priority=priority,
            scope=scope,
            public_prefix=public_prefix,
            observe=observe,
        )

    async def score(self, prompt_ids: Sequence[int], candidate_ids: Sequence[int], **options: Any) -> Score:
        return await self.local.score(prompt_ids, candidate_ids, **options)

    async def forget(self, ids: Sequence[int], *, keep: int, scope: str = "") -> None:
        await self.local.forget(ids, keep=keep, scope=scope)

    def pinned(self, ids: Sequence[int], *, scope: str = "") -> AbstractAsyncContextManager[int]:
        return self.local.pinned(ids, scope=scope)

    async def cached_text(self) -> str:
        """Return, of every sequence that was computed, what the cache still holds."""
        held: list[str] = []
        for ids, scope in self.sequences:
            async with self.local.pinned(ids, scope=scope) as tokens:
                held.append(self.tokenizer.decode(ids[:tokens], skip_special=False))
        return "\n".join(held)

    def _dictated(self, prompt_ids: Sequence[int], scope: str) -> Grammar:
        """Return a grammar of the next reply alone, and write down what it makes of the prompt."""
        if not self.replies:
            raise InferenceError("there is nothing left to dictate")
        reply = self.replies.pop(0)
        self.sequences.append(([*prompt_ids, *self.tokenizer.encode(reply)], scope))
        self.prompts.append(self.tokenizer.decode(prompt_ids, skip_special=False))
        return Grammar(lark=f"start: {json.dumps(reply)}")

    async def close(self) -> None:
        await self.local.close()

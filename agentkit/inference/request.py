"""One request on its way through the model: prefill in chunks, then a token at a time. Knows no cache."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch

from agentkit.errors import InferenceError
from agentkit.inference.base import (
    GeneratedToken,
    Grammar,
    Priority,
    SamplingParams,
    Score,
    StopReason,
    Usage,
)
from agentkit.inference.constraint import GrammarConstraint
from agentkit.inference.kv_cache import KVBuffer
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.model import GROWTH, LlamaModel
from agentkit.inference.sampler import Sampler
from agentkit.inference.tokenizer import Tokenizer

T = TypeVar("T")


class Request(ABC, Generic[T]):
    """The ids of a prompt and its output. `kv` holds the first of them; the rest is still to be computed.

    Results and errors go to the mailbox. Between two steps the request may be dropped at any time.
    """

    def __init__(
        self,
        model: LlamaModel,
        prompt_ids: Sequence[int],
        *,
        max_tokens: int,
        priority: Priority,
        scope: str,
        mailbox: Mailbox[T],
    ) -> None:
        self.model = model
        self.ids = list(prompt_ids)
        self.priority = priority
        self.scope = scope
        self.kv: KVBuffer | None = None
        self.finished = False
        self._prompt_tokens = len(self.ids)
        self._max_tokens = max_tokens
        self._mailbox = mailbox
        self._cached_tokens = 0
        self._submitted_at = time.perf_counter()
        self._started_at = self._submitted_at
        self._prefilled_at: float | None = None

    def start(self, kv: KVBuffer) -> None:
        """Begin with a buffer that holds a prefix of the prompt: all of it but one token, at most."""
        self.kv = kv
        self._cached_tokens = kv.length
        self._started_at = time.perf_counter()
        kv.reserve(self._prompt_tokens + min(self._max_tokens, GROWTH))

    def step(self, chunk: int) -> None:
        """Compute at most `chunk` of the ids that `kv` lacks; use the logits of the last one, if it was reached."""
        if self.kv is None:
            raise InferenceError("a request takes steps only between its start and its end")
        pending = self.ids[self.kv.length : self.kv.length + chunk]
        logits = self.model.forward(torch.tensor(pending, dtype=torch.int64), self.kv)
        if self.kv.length < len(self.ids):
            return
        if self._prefilled_at is None:
            self._prefilled_at = time.perf_counter()
        self._use(logits[0])

    def fail(self, error: Exception) -> None:
        """End with an error, which the caller of the engine gets."""
        self.finished = True
        self._mailbox.send(error)

    @abstractmethod
    def _use(self, logits: torch.Tensor) -> None:
        """Take the logits (vocab_size,) of the token after `ids`: append one, or finish."""

    def _usage(self) -> Usage:
        now = time.perf_counter()
        prefilled_at = now if self._prefilled_at is None else self._prefilled_at
        return Usage(
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            prefilled_tokens=self._prompt_tokens - self._cached_tokens,
            output_tokens=len(self.ids) - self._prompt_tokens,
            queue_seconds=self._started_at - self._submitted_at,
            prefill_seconds=prefilled_at - self._started_at,
            decode_seconds=now - prefilled_at,
        )


class ScoreRequest(Request[Score]):
    """Asks for the log-probabilities of some next tokens, once."""

    def __init__(
        self,
        model: LlamaModel,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority,
        scope: str,
        mailbox: Mailbox[Score],
    ) -> None:
        super().__init__(model, prompt_ids, max_tokens=0, priority=priority, scope=scope, mailbox=mailbox)
        self._candidate_ids = list(candidate_ids)

    def _use(self, logits: torch.Tensor) -> None:
        logprobs = torch.log_softmax(logits.float(), dim=-1)[self._candidate_ids]
        if logprobs.isnan().any():
            raise InferenceError("the model's logits are not numbers")
        self.finished = True
        self._mailbox.send(Score(logprobs=tuple(logprobs.tolist()), usage=self._usage()))


class GenerationRequest(Request[GeneratedToken]):
    """Draws tokens until one of them stops it, or there are enough, or the context is full."""

    def __init__(
        self,
        model: LlamaModel,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None,
        tokenizer: Tokenizer,
        context_length: int,
        priority: Priority,
        scope: str,
        mailbox: Mailbox[GeneratedToken],
    ) -> None:
        super().__init__(
            model, prompt_ids, max_tokens=params.max_tokens, priority=priority, scope=scope, mailbox=mailbox
        )
        self._stop_ids = params.stop_ids
        self._sampler = Sampler(params)
        self._grammar = grammar
        self._tokenizer = tokenizer
        self._constraint: GrammarConstraint | None = None
        self._context_length = context_length

    def start(self, kv: KVBuffer) -> None:
        """Begin, and compile the grammar."""
        super().start(kv)
        if self._grammar is not None:
            self._constraint = GrammarConstraint(self._grammar, self._tokenizer, self._stop_ids)

    def _use(self, logits: torch.Tensor) -> None:
        if self._constraint is not None:
            self._constraint.mask(logits)
        token_id = self._sampler.draw(logits)
        self.ids.append(token_id)
        stop_reason = self._stop_reason(token_id)
        if stop_reason is None and self._constraint is not None:
            self._constraint.advance(token_id)
        usage = None if stop_reason is None else self._usage()
        delivered = self._mailbox.send(GeneratedToken(id=token_id, stop_reason=stop_reason, usage=usage))
        self.finished = stop_reason is not None or not delivered

    def _stop_reason(self, token_id: int) -> StopReason | None:
        if token_id in self._stop_ids:
            return StopReason.STOP_TOKEN
        if len(self.ids) - self._prompt_tokens >= self._max_tokens:
            return StopReason.MAX_TOKENS
        if len(self.ids) >= self._context_length:
            return StopReason.CONTEXT_FULL
        return None

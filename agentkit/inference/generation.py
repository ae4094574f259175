"""The request that generates: a token a step, or several where a draft of them is right. Decides nobody's turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from agentkit.inference.base import GeneratedToken, Grammar, Priority, SamplingParams, StopReason
from agentkit.inference.constraint import GrammarConstraint
from agentkit.inference.mailbox import Mailbox
from agentkit.inference.model import Output, Part
from agentkit.inference.observed import ObservedStates
from agentkit.inference.prompt_lookup import PromptLookup
from agentkit.inference.request import NextTokenRequest
from agentkit.inference.sampler import Draw, Sampler
from agentkit.inference.tokenizer import Tokenizer


class GenerationRequest(NextTokenRequest[GeneratedToken]):
    """Draws tokens until one of them stops it, or there are enough, or the context is full."""

    def __init__(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None,
        tokenizer: Tokenizer,
        context_length: int,
        priority: Priority,
        scope: str,
        mailbox: Mailbox[GeneratedToken],
        public_prefix: int = 0,
        observed: ObservedStates | None = None,
    ) -> None:
        super().__init__(
            prompt_ids, priority=priority, scope=scope, mailbox=mailbox, public_prefix=public_prefix
        )
        self._max_tokens = params.max_tokens
        self._stop_ids = params.stop_ids
        self._sampler = Sampler(params)
        self._grammar = grammar
        self._tokenizer = tokenizer
        self._constraint: GrammarConstraint | None = None
        self._context_length = context_length
        self._lookup: PromptLookup | None = None
        self._observed = observed

    def _start(self) -> None:
        """Compile the grammar."""
        if self._grammar is not None:
            self._constraint = GrammarConstraint(self._grammar, self._tokenizer, self._stop_ids)
            self._constraint.begin_mask()

    @property
    def reusable(self) -> int:
        """How many of the leading ids need not be computed if they are cached: of states, nothing is cached."""
        most = super().reusable
        return most if self._observing is None else min(most, self._observing.collector.next)

    def part(self, count: int) -> Part:
        """Return what the next step computes, with the hidden states that are still wanted."""
        part = super().part(count)
        return part if self._observing is None else replace(part, layers=self._observing.layers)

    def take(self, output: Output) -> None:
        """Use what a step gave: hidden states, and the logits once there are any."""
        if self._observing is not None:
            self._observing.take(output.hidden, computed=len(self.ids) - self.pending)
        super().take(output)

    def fail(self, error: Exception) -> None:
        """End with an error; whoever waits for hidden states learns that there are none."""
        if self._observed is not None:
            self._observed.give_up()
        super().fail(error)

    @property
    def _observing(self) -> ObservedStates | None:
        return None if self._observed is None or self._observed.collector.done else self._observed

    @property
    def draw(self) -> Draw | None:
        """How the next token is drawn, where no grammar has a say in it."""
        return self._sampler.next if self._constraint is None else None

    def draft_chances(self, most: int) -> list[float]:
        """Return the chances by how often the sequence has repeated itself so far; none where it does not now."""
        if self._lookup is None:
            self._lookup = PromptLookup(self.ids[: self._prompt_tokens])
        self._lookup.follow(self.ids)
        if self._lookup.place is None:
            return []
        # The last token that may still come needs no draft: it is drawn after the one before it.
        left = min(self._prompt_tokens + self._max_tokens, self._context_length) - len(self.ids) - 1
        return [self._lookup.chance**number for number in range(1, min(most, left) + 1)]

    def make_draft(self, count: int) -> None:
        """Draft what followed earlier, up to where the output would end or the grammar forbids it."""
        draft = [] if self._lookup is None else self._lookup.draft(count)
        ends = (number for number, token_id in enumerate(draft, start=1) if token_id in self._stop_ids)
        draft = draft[: next(ends, None)]
        self.draft = draft if self._constraint is None else draft[: self._constraint.allowed(draft)]

    def _use(self, output: Output) -> None:
        """Draw a token, and one more for every drafted one that is what was drawn."""
        draft, self.draft = self.draft, []
        self.drafted_tokens += len(draft)
        try:
            for logits, drafted in zip(output.logits, [*draft, None], strict=True):
                token_id = self._next_token(logits, output.drawn)
                self.accepted_tokens += token_id == drafted
                self._append(token_id)
                if self.finished or token_id != drafted:
                    break
        finally:
            if draft:
                self._held().truncate(len(self.ids) - 1)

    def _append(self, token_id: int) -> None:
        self.ids.append(token_id)
        stop_reason = self._stop_reason(token_id)
        if stop_reason is None and self._constraint is not None:
            self._constraint.advance(token_id)
            self._constraint.begin_mask()
        usage = None if stop_reason is None else self._usage()
        delivered = self._mailbox.send(GeneratedToken(id=token_id, stop_reason=stop_reason, usage=usage))
        self.finished = stop_reason is not None or not delivered

    def _next_token(self, logits: torch.Tensor, drawn: int | None) -> int:
        if drawn is not None:
            self._sampler.advance()
            return drawn
        if self._constraint is not None:
            self._constraint.mask(logits)
        return self._sampler.draw(logits)

    def _stop_reason(self, token_id: int) -> StopReason | None:
        if token_id in self._stop_ids:
            return StopReason.STOP_TOKEN
        if len(self.ids) - self._prompt_tokens >= self._max_tokens:
            return StopReason.MAX_TOKENS
        if len(self.ids) >= self._context_length:
            return StopReason.CONTEXT_FULL
        return None

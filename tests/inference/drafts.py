"""Drafts for tests: costs under which they always pay, and an oracle in place of the sequence's own past."""

from __future__ import annotations

import random
from collections.abc import Sequence

from agentkit.inference.generation import GenerationRequest
from agentkit.inference.prompt_lookup import PromptLookup
from agentkit.inference.speculation import PassCosts, Speculation


class FreeDrafts(PassCosts):
    """Every pass takes as long as any other."""

    def plain(self, sequences):
        return 1.0

    def drafted(self, rows, plain, *, sequences):
        return 1.0


def eager_speculation() -> Speculation:
    return Speculation(FreeDrafts())


class Oracle(PromptLookup):
    """Knows what comes after the prompt, and errs with a chance of its own; behind the truth it says zero."""

    def __init__(self, whole: Sequence[int], *, errs: float = 0.0, seed: int = 0) -> None:
        super().__init__([])
        self.whole, self.errs, self.random = list(whole), errs, random.Random(seed)
        self.known, self.place, self.chance = 0, 0, 0.999

    def follow(self, ids):
        self.known = len(ids)

    def draft(self, count):
        truth = (self.whole + [0] * (self.known + count))[self.known : self.known + count]
        return [token_id ^ 1 if self.random.random() < self.errs else token_id for token_id in truth]


def foretold(request: GenerationRequest, output: Sequence[int], **oracle) -> GenerationRequest:
    """Return the request, which drafts its output from now on."""
    request._lookup = Oracle([*request.ids, *output], **oracle)
    return request

"""Logits in, one token id out: greedy, or temperature with top-p. Knows no grammar and no sequence."""

from __future__ import annotations

import math

import torch

from agentkit.errors import InferenceError
from agentkit.inference.base import SamplingParams

SEED_RANGE = 1 << 63  # torch takes 64 bits; the remainder brings every Python integer into range


class Sampler:
    """Draws the tokens of one request. With a seed, the same logits give the same ids on every device."""

    def __init__(self, params: SamplingParams) -> None:
        self._temperature = params.temperature
        self._top_p = params.top_p
        self._generator = torch.Generator(device="cpu")
        if params.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(params.seed % SEED_RANGE)

    def draw(self, logits: torch.Tensor) -> int:
        """Return the next token, given logits (vocab_size,); `-inf` marks a token that must not be drawn.

        Raises:
            InferenceError: if the logits are not numbers, or allow no token.
        """
        best = float(logits.max())  # NaN wins over every number
        if not math.isfinite(best):
            raise InferenceError(f"no token can be drawn: the highest logit is {best}")
        if self._temperature == 0.0:
            return int(logits.argmax())
        # The best logit is taken off first, so that even a tiny temperature cannot overflow.
        scaled = (logits.cpu().double() - best) / self._temperature
        probabilities = torch.softmax(scaled, dim=-1)
        return self._draw_nucleus(probabilities)

    def _draw_nucleus(self, probabilities: torch.Tensor) -> int:
        """Draw among the fewest most likely tokens that together hold `top_p` of the mass."""
        if self._top_p == 1.0:
            return int(torch.multinomial(probabilities, 1, generator=self._generator))
        ranked, ids = probabilities.sort(descending=True, stable=True)
        mass_before = ranked.cumsum(0) - ranked
        nucleus = ranked * (mass_before < self._top_p)
        return int(ids[torch.multinomial(nucleus, 1, generator=self._generator)])

"""Logits in, token ids out: greedy, or temperature with top-p. Knows no grammar and no sequence.

One number from a seeded generator decides a draw, so that it may happen on any device and in any batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from agentkit.errors import InferenceError
from agentkit.inference.base import SamplingParams

SEED_RANGE = 1 << 63  # torch takes 64 bits; the remainder brings every Python integer into range

NO_TOKEN = -1
"""What is drawn from logits that are not numbers, or allow no token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What decides which token is drawn, given logits; `uniform` is in [0, 1)."""

    temperature: float
    top_p: float
    uniform: float


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
        self._uniform = self._next_uniform()

    @property
    def next(self) -> Draw:
        """How the next token is to be drawn; whoever does so elsewhere then calls `advance`."""
        return Draw(temperature=self._temperature, top_p=self._top_p, uniform=self._uniform)

    def advance(self) -> None:
        """Go on to the next draw."""
        self._uniform = self._next_uniform()

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
        token_id = int(draw_tokens(logits.cpu()[None], draw_settings([self.next]))[0])
        self.advance()
        return token_id

    def _next_uniform(self) -> float:
        return float(torch.rand((), dtype=torch.float64, generator=self._generator))


def draw_settings(draws: list[Draw]) -> torch.Tensor:
    """Return the rows (temperature, top_p, uniform) that `draw_tokens` takes, in fp64."""
    return torch.tensor([(draw.temperature, draw.top_p, draw.uniform) for draw in draws], dtype=torch.float64)


def most_likely_tokens(logits: torch.Tensor) -> torch.Tensor:
    """Return the most likely token of each row of logits (rows, vocab_size), or `NO_TOKEN`."""
    best, token_ids = logits.max(dim=-1)
    return token_ids.masked_fill(~best.isfinite(), NO_TOKEN)


def draw_tokens(logits: torch.Tensor, settings: torch.Tensor) -> torch.Tensor:
    """Return a token for each row of logits (rows, vocab_size), or `NO_TOKEN`; temperature 0 takes the most likely.

    Never waits for the device, and its shapes depend on no value.
    """
    temperature, top_p, uniform = settings[:, :, None].unbind(dim=1)
    greedy = most_likely_tokens(logits)
    # The best logit is taken off first, so that even a tiny temperature cannot overflow.
    distances = logits.double() - logits.amax(dim=-1, keepdim=True)
    probabilities = torch.softmax(distances / temperature.masked_fill(temperature == 0.0, 1.0), dim=-1)
    cumulative = _nucleus(probabilities, top_p).cumsum(dim=-1)
    drawn = (cumulative <= uniform * cumulative[:, -1:]).sum(dim=-1)
    return torch.where((temperature[:, 0] == 0.0) | (greedy == NO_TOKEN), greedy, drawn)


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Keep the fewest most likely tokens that together hold `top_p` (rows, 1) of the mass; the others get zero."""
    if top_p.device.type == "cpu" and bool((top_p == 1.0).all()):
        return probabilities  # what follows changes nothing then, and sorting is slow
    ranked, token_ids = probabilities.sort(descending=True, stable=True)
    mass_before = ranked.cumsum(dim=-1) - ranked
    kept = ranked * ((mass_before < top_p) | (top_p == 1.0))
    return torch.zeros_like(probabilities).scatter_(-1, token_ids, kept)

"""Rotary positions: which angle each position has at each frequency, and turning heads by them."""

from __future__ import annotations

import math

import torch

from agentkit.inference.config import FrequencyDivisors, LinearScaling, Llama3Scaling, ModelConfig


def rotary_frequencies(config: ModelConfig) -> torch.Tensor:
    """Return the radians per position at each of the `head_dim / 2` frequencies, scaled as configured."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    match config.rope_scaling:
        case None:
            return frequencies
        case LinearScaling(factor=factor):
            return frequencies / factor
        case FrequencyDivisors(divisors=divisors):
            return frequencies / torch.tensor(divisors, dtype=torch.float32)
        case Llama3Scaling() as scaling:
            return _scale_as_llama3(frequencies, scaling)


def rotary_angles(
    frequencies: torch.Tensor, positions: torch.Tensor, *, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and signed sines of positions (rows,), as `rotate` wants them.

    Both have the shape (rows, 1, head_dim): one for all heads. The sines of the first half are negated.
    """
    angles = positions.to(frequencies)[:, None, None] * frequencies
    cosines, sines = angles.cos(), angles.sin()
    return torch.cat((cosines, cosines), -1).to(dtype), torch.cat((-sines, sines), -1).to(dtype)


def rotate(heads: torch.Tensor, cosines: torch.Tensor, signed_sines: torch.Tensor) -> torch.Tensor:
    """Turn heads of the shape (rows, num_heads, head_dim), pairing element i with i + head_dim / 2."""
    first, second = heads.chunk(2, dim=-1)
    return torch.addcmul(heads * cosines, torch.cat((second, first), -1), signed_sines)


def _scale_as_llama3(frequencies: torch.Tensor, scaling: Llama3Scaling) -> torch.Tensor:
    # Llama 3.1 scales only the low frequencies; the band between is interpolated.
    turns = scaling.original_context_length * frequencies / (2 * math.pi)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0.0, 1.0)
    return kept * frequencies + (1.0 - kept) * frequencies / scaling.factor

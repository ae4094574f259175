"""What the key of cached keys and values holds besides the ids."""

from __future__ import annotations

from dataclasses import replace

import torch

from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.config import LinearScaling
from agentkit.inference.loading import cache_identity
from agentkit.inference.model import LlamaModel


def test_weights_dtype_and_rotary_positions_each_make_another_cache(tiny_checkpoint):
    loaded = load_checkpoint(tiny_checkpoint)
    model = LlamaModel(loaded.config, loaded.tensors)
    half = LlamaModel(
        loaded.config, {name: tensor.to(torch.bfloat16) for name, tensor in loaded.tensors.items()}
    )
    turned = LlamaModel(replace(loaded.config, rope_theta=500_000.0), loaded.tensors)
    scaled = LlamaModel(replace(loaded.config, rope_scaling=LinearScaling(factor=2.0)), loaded.tensors)
    identities = [
        cache_identity("these weights", model),
        cache_identity("other weights", model),
        cache_identity("these weights", half),
        cache_identity("these weights", turned),
        cache_identity("these weights", scaled),
        cache_identity(None, model),  # weights that nobody has named are like no others
        cache_identity(None, model),
    ]
    assert len(set(identities)) == len(identities)
    assert cache_identity("these weights", model) == identities[0]

"""A model whose channels have another order is the same function of other rows."""

from __future__ import annotations

import torch

from agentkit.inference.checkpoint import load_checkpoint
from agentkit.inference.model import LlamaModel
from benchmarks.reordered import reordered
from tests.inference.calling import token_ids
from tests.inference.tiny import build_tiny_checkpoint


def test_another_order_of_channels_is_another_order_of_weights_and_no_other_function(tmp_path):
    checkpoint = load_checkpoint(build_tiny_checkpoint(tmp_path))
    ids, models = torch.tensor(token_ids(30)), []
    for one in (checkpoint, reordered(checkpoint)):
        model = LlamaModel(one.config, one.tensors)
        models.append(model.forward(ids, model.new_buffer(32), last_only=False))
    torch.testing.assert_close(*models, rtol=0, atol=1e-4)
    for name, tensor in reordered(checkpoint).tensors.items():
        if tensor.ndim == 2:
            assert not torch.equal(tensor, checkpoint.tensors[name])
            assert torch.equal(
                tensor.flatten().sort().values, checkpoint.tensors[name].flatten().sort().values
            )

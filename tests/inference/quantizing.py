"""What quantised weights stand for, in fp32."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from agentkit.inference.config import WeightType
from agentkit.inference.llama_tensors import EMBEDDING, HEAD
from agentkit.inference.matrices import Matrices


def stand_ins(tensors: Mapping[str, torch.Tensor], weights: WeightType) -> dict[str, torch.Tensor]:
    """Return the weights that a model of such matrices computes with; with int4, embedding and head are int8."""
    kept = {name: "int8" if weights == "int4" and name in (EMBEDDING, HEAD) else weights for name in tensors}
    return {
        name: tensor
        if tensor.ndim == 1
        else Matrices([tensor], kept[name]).look_up(torch.arange(len(tensor)), torch.float32)
        for name, tensor in tensors.items()
    }

"""A Llama model: token ids and cached keys in, logits out. Knows no text and draws no token."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows

from agentkit.errors import InferenceError
from agentkit.inference.config import ModelConfig
from agentkit.inference.kv_cache import KVBuffer
from agentkit.inference.layers import DecoderLayer, Step, rms_norm
from agentkit.inference.rope import rotary_angles, rotary_frequencies

# A buffer that is full grows by this many positions at least, so that decoding rarely has to copy it.
GROWTH = 256


class LlamaModel:
    """A Llama model on the device and in the dtype of its tensors.

    Not safe for concurrent calls on one buffer; the weights are only read.
    """

    def __init__(self, config: ModelConfig, tensors: Mapping[str, torch.Tensor]) -> None:
        self.config = config
        self._embedding = tensors["model.embed_tokens.weight"]
        self._layers = [DecoderLayer(config, tensors, index) for index in range(config.num_layers)]
        self._norm = tensors["model.norm.weight"]
        self._head = self._embedding if config.tie_embeddings else tensors["lm_head.weight"]
        self._frequencies = rotary_frequencies(config).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where buffers and logits will be."""
        return self._embedding.device

    def new_buffer(self, capacity: int = 0) -> KVBuffer:
        """Return an empty buffer that fits this model."""
        return KVBuffer(
            num_layers=self.config.num_layers,
            num_kv_heads=self.config.num_kv_heads,
            head_dim=self.config.head_dim,
            capacity=capacity,
            dtype=self._embedding.dtype,
            device=self.device,
        )

    def forward(self, ids: torch.Tensor, kv: KVBuffer, *, last_only: bool = True) -> torch.Tensor:
        """Run the ids at the positions after `kv.length`; append their keys and values to `kv`.

        Returns the fp32 logits of shape (1 or len(ids), vocab_size): of the last id, or of all. If it raises,
        `kv` holds what it held.

        Raises:
            InferenceError: if there are no ids, or more than one row of them.
        """
        if ids.ndim != 1 or ids.shape[0] == 0:
            raise InferenceError(f"ids must be one row of at least one id, got the shape {tuple(ids.shape)}")
        with torch.inference_mode():
            step = self._step(kv.length, ids.shape[0])
            if step.end > kv.capacity:
                kv.reserve(max(step.end, kv.capacity + GROWTH))
            hidden = F.embedding(ids.to(self.device), self._embedding)
            for layer in self._layers:
                hidden = layer.forward(hidden, kv, step)
            if last_only:
                hidden = hidden[-1:]
            logits = F.linear(rms_norm(hidden, self._norm, self.config.rms_norm_eps), self._head)
        kv.length = step.end
        # A copy made outside inference mode may be masked in place by the caller; the original may not.
        return logits.to(torch.float32, copy=True)

    def _step(self, start: int, count: int) -> Step:
        cosines, signed_sines = rotary_angles(
            self._frequencies, start=start, count=count, dtype=self._embedding.dtype
        )
        # torch aligns `is_causal` to the upper left: right only where the queries start at position 0.
        mask = None
        if start > 0 and count > 1:
            mask = lower_right_causal_mask(start, count).to(self.device, self._embedding.dtype)
        return Step(
            start=start,
            end=start + count,
            cosines=cosines,
            signed_sines=signed_sines,
            causal=start == 0,
            mask=mask,
        )


def lower_right_causal_mask(cached_len: int, query_len: int) -> torch.Tensor:
    """Return what to add to the scores of the queries: zero where a key came before or is the query's own.

    The shape is (query_len, cached_len + query_len).
    """
    hidden = torch.full((query_len, cached_len + query_len), float("-inf"))
    return hidden.triu_(diagonal=cached_len + 1)

"""transformers' generate on the same weights, with its static cache and, on a GPU, its compiled decode step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.generation.streamers import BaseStreamer
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from agentkit.inference.config import Llama3Scaling, ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTimes:
    """Seconds until the first token, and for a decode step."""

    first_token: float
    step: float


class _Stopwatch(BaseStreamer):  # type: ignore[misc]  # transformers has no types
    """Notes when each token is there; the prompt comes first."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is left to note."""


class Peer:
    """A transformers model around tensors that somebody else holds; none is copied."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, torch.Tensor]) -> None:
        weight = tensors["model.norm.weight"]
        self._device = weight.device
        with torch.device("meta"):
            model = LlamaForCausalLM(_config(config)).to(weight.dtype)
        model.load_state_dict(tensors, assign=True)
        model.model.rotary_emb = LlamaRotaryEmbedding(model.config).to(self._device)
        self._model = model.eval()

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Return those of every id of one prompt."""
        with torch.inference_mode():
            logits: torch.Tensor = self._model(ids[None].to(self._device)).logits[0]
        return logits

    def times(self, *, batch: int, context: int, steps: int) -> PeerTimes:
        """Generate from fresh random prompts; the first run compiles, the second one counts."""
        settings = GenerationConfig(
            max_new_tokens=steps + 1,
            min_new_tokens=steps + 1,
            do_sample=False,
            cache_implementation="static",
            pad_token_id=0,
            eos_token_id=None,
        )
        torch.compiler.reset()  # too many shapes, and it would stop compiling for new ones
        for _ in range(2):
            stopwatch = _Stopwatch()
            ids = torch.randint(self._model.config.vocab_size, (batch, context), device=self._device)
            mask = torch.ones_like(ids)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            started = time.perf_counter()
            self._model.generate(ids, attention_mask=mask, generation_config=settings, streamer=stopwatch)
        _prompt, first, *others = stopwatch.times
        ends = [first, *others]
        gaps = [end - begin for begin, end in zip(ends, others, strict=False)]
        return PeerTimes(first_token=first - started, step=statistics.median(gaps))


def peer_bytes(config: ModelConfig, *, batch: int, context: int, itemsize: int) -> int:
    """Return about how much memory a run takes: its cache, its prompt's activations in one piece, and its mask."""
    kv = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    activations = 8 * config.hidden_size + 4 * config.intermediate_size
    return batch * context * ((kv + activations) * itemsize + context)


def _config(config: ModelConfig) -> LlamaConfig:
    scaling = config.rope_scaling
    if not isinstance(scaling, Llama3Scaling):
        raise TypeError(f"the benchmark's models scale their positions as Llama 3.1, got {scaling!r}")
    return LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.rms_norm_eps,
        max_position_embeddings=config.context_length,
        tie_word_embeddings=config.tie_embeddings,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": config.rope_theta,
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        },
    )

"""transformers' generate with its cache kept between turns; several sessions go in lockstep, as one batch."""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.generation.streamers import BaseStreamer

from benchmarks.peers.protocol import Answer, Conversation, Turn, peak_mb, serve

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class FirstToken(BaseStreamer):  # type: ignore[misc]  # transformers has no types for us
    """Notes when the first token arrives."""

    def __init__(self) -> None:
        self.at = 0.0
        self._num_calls = 0

    def put(self, value: Any) -> None:
        """Take the prompt, then one token of every sequence at a time."""
        self._num_calls += 1
        if self._num_calls == 2:
            self.at = time.perf_counter()

    def end(self) -> None:
        """Nothing is held back."""


class TransformersPeer:
    """A `Peer`. The sessions' turns must be of equal length: generate pads no cache."""

    def __init__(self, model: Any) -> None:
        self._model = model
        model.generation_config.eos_token_id = None  # every turn is as long as the others
        model.generation_config.pad_token_id = 0

    def converse(self, conversation: Conversation) -> Answer:
        """Hold the conversation as one batch: the system prompt is computed once and its cache repeated."""
        num_sessions = len(conversation.turns)
        cache = DynamicCache()
        started = time.perf_counter()
        if conversation.system:
            self._generate(torch.tensor([conversation.system]), cache, 1)
            cache.batch_repeat_interleave(num_sessions)
        system_seconds = time.perf_counter() - started
        prompt = torch.tensor([conversation.system] * num_sessions, dtype=torch.long)
        turns: list[list[Turn]] = [[] for _ in conversation.turns]
        started = time.perf_counter()
        for new_ids in zip(*conversation.turns, strict=True):
            prompt = torch.cat([prompt, torch.tensor(new_ids)], dim=1)
            prompt, done = self._generate(prompt, cache, conversation.output_tokens)
            for session, turn in zip(turns, done, strict=True):
                session.append(turn)
        return Answer(
            turns=turns,
            system_seconds=system_seconds,
            turns_seconds=time.perf_counter() - started,
            peak_mb=peak_mb(),
        )

    def _generate(
        self, prompt: torch.Tensor, cache: Any, output_tokens: int
    ) -> tuple[torch.Tensor, list[Turn]]:
        """Return the prompts with what was generated, and one turn for each."""
        first = FirstToken()
        started = time.perf_counter()
        whole = self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            past_key_values=cache,
            max_new_tokens=output_tokens,
            do_sample=False,
            streamer=first,
        )
        seconds = time.perf_counter() - started
        generated = whole[:, prompt.shape[1] :].tolist()
        first_seconds = first.at - started
        return whole, [Turn(ids=ids, first_seconds=first_seconds, seconds=seconds) for ids in generated]


def load(arguments: argparse.Namespace) -> TransformersPeer:
    """Load a folder of safetensors."""
    torch.set_num_threads(arguments.threads)
    dtype = DTYPES[arguments.precision]
    return TransformersPeer(AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype).eval())


if __name__ == "__main__":
    serve(load, "transformers", "torch")

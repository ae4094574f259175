"""Time to the first token of a second turn: with the conversation cached, without, and one bare forward pass.

`python -m benchmarks.first_token` prints JSON and a table, and exits 1 where the cache does not keep its promise:
only what is new is prefilled, and that takes at most a quarter of the time. The bare pass is the model's own, over
the tokens that the warm turn prefills, at their positions behind the same keys and values.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from dataclasses import dataclass
from operator import truediv
from typing import Any

import anyio
import torch

from agentkit.inference.base import SamplingParams, Usage, collect
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.config import EngineConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.loading import load_model
from agentkit.inference.model import LlamaModel

CONVERSATION_TOKENS = 1_500
OUTPUT_TOKENS = 16  # the part of the conversation that the model itself wrote
NEW_TOKENS = 150
# The last token drawn is in the conversation, but nothing has been computed from it yet.
TOKENS_TO_PREFILL = NEW_TOKENS + 1
HIGHEST_RATIO = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """How long the first token took, and what the engine says it did for it."""

    seconds: float
    usage: Usage


async def first_token(engine: LocalEngine, prompt: list[int], scope: str) -> FirstToken:
    started = time.perf_counter()
    async for token in engine.generate(prompt, SamplingParams(max_tokens=1), scope=scope):
        seconds = time.perf_counter() - started
        if token.usage is not None:
            return FirstToken(seconds=seconds, usage=token.usage)
    raise RuntimeError("the engine gave no token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """The second turn with the same ids, which no repetition has used before."""

    warm: FirstToken
    cold: FirstToken
    forward_seconds: float


async def one_repetition(engine: LocalEngine, model: LlamaModel, ids: random.Random, name: str) -> Repetition:
    plain_ids = sorted(set(range(engine.tokenizer.vocab_size)) - set(engine.tokenizer.special_ids.values()))
    prompt = ids.choices(plain_ids, k=CONVERSATION_TOKENS - OUTPUT_TOKENS)
    params = SamplingParams(max_tokens=OUTPUT_TOKENS)
    first_turn = await collect(engine.generate(prompt, params, scope=f"{name} warm"))
    second_turn = [*prompt, *first_turn.ids, *ids.choices(plain_ids, k=NEW_TOKENS)]
    warm = await first_token(engine, second_turn, f"{name} warm")
    forward_seconds = forward(model, second_turn)
    cold = await first_token(engine, second_turn, f"{name} cold")
    return Repetition(warm=warm, cold=cold, forward_seconds=forward_seconds)


def forward(model: LlamaModel, ids: list[int]) -> float:
    """Return the seconds of one pass over what a warm turn prefills of these ids."""
    kv = model.new_buffer(len(ids))
    for chunk in torch.split(torch.tensor(ids[:-TOKENS_TO_PREFILL]), EngineConfig().prefill_chunk):
        model.forward(chunk, kv)
    started = time.perf_counter()
    model.forward(torch.tensor(ids[-TOKENS_TO_PREFILL:]), kv)
    return time.perf_counter() - started


async def measure(model: str, repetitions: int, seed: int) -> dict[str, Any]:
    engine, bare_model = await LocalEngine.load(model), load_model(model, EngineConfig()).model
    ids = random.Random(seed)
    try:
        await one_repetition(engine, bare_model, ids, "warm-up")
        done = [await one_repetition(engine, bare_model, ids, str(number)) for number in range(repetitions)]
    finally:
        await engine.close()
    warm_seconds = [one.warm.seconds for one in done]
    cold_seconds = [one.cold.seconds for one in done]
    forward_seconds = [one.forward_seconds for one in done]
    return {
        "model": engine.name,
        "repetitions": repetitions,
        "conversation_tokens": CONVERSATION_TOKENS,
        "new_tokens": NEW_TOKENS,
        "tokens_to_prefill": TOKENS_TO_PREFILL,
        "warm_prefilled_tokens": sorted({one.warm.usage.prefilled_tokens for one in done}),
        "cold_prefilled_tokens": sorted({one.cold.usage.prefilled_tokens for one in done}),
        "warm_seconds": [round(seconds, 4) for seconds in warm_seconds],
        "cold_seconds": [round(seconds, 4) for seconds in cold_seconds],
        "forward_seconds": [round(seconds, 4) for seconds in forward_seconds],
        "warm_to_cold": round(statistics.median(warm_seconds) / statistics.median(cold_seconds), 4),
        "warm_to_forward": round(statistics.median(map(truediv, warm_seconds, forward_seconds)), 4),
    }


def table(figures: dict[str, Any]) -> str:
    lines = [f"{'second turn':<12}{'prefilled':>12}{'first token (median)':>24}"]
    for kind in ("warm", "cold"):
        prefilled = ", ".join(map(str, figures[f"{kind}_prefilled_tokens"]))
        seconds = statistics.median(figures[f"{kind}_seconds"])
        lines.append(f"{kind:<12}{prefilled:>12}{seconds:>22.3f} s")
    lines.append(f"warm / cold: {figures['warm_to_cold']:.3f} (at most {HIGHEST_RATIO})")
    lines.append(f"warm / bare forward pass: {figures['warm_to_forward']:.3f} (median of the pairs)")
    return "\n".join(lines)


def keeps_the_promise(figures: dict[str, Any]) -> bool:
    only_what_is_new: bool = figures["warm_prefilled_tokens"] == [TOKENS_TO_PREFILL]
    return only_what_is_new and float(figures["warm_to_cold"]) <= HIGHEST_RATIO


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="any model reference")
    parser.add_argument("--repetitions", type=int, default=5, help="pairs of a warm and a cold turn")
    parser.add_argument("--seed", type=int, default=0, help="of the token ids")
    arguments = parser.parse_args()
    figures = anyio.run(measure, arguments.model, arguments.repetitions, arguments.seed)
    print(json.dumps(figures, indent=2))
    print(table(figures))
    return 0 if keeps_the_promise(figures) else 1


if __name__ == "__main__":
    sys.exit(main())

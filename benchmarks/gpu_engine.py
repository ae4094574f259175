"""What the inference core takes for a decode step and for a first token: pages, prefix tree and runner, no server."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass

from agentkit.inference.kv_cache import KVCache
from agentkit.inference.kv_pages import PagePool
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.model import PAGE_TOKENS, LlamaModel, Part
from agentkit.inference.runner import DecodeRunner, EagerRunner, Row
from agentkit.inference.sampler import Draw
from benchmarks.gpu_machine import Machine

GREEDY = Draw(temperature=0.0, top_p=1.0, uniform=0.0)
WARM_UP_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """Seconds until the first token of a prompt that nothing is cached of, and of one that goes on from it."""

    cold: float
    warm: float


def new_runner(model: LlamaModel, pool: PagePool) -> DecodeRunner:
    """Return what an engine would decode with on the model's device, or the same steps op by op on a CPU."""
    if model.device.type != "cuda":
        return EagerRunner(model, pool)
    from agentkit.inference.cuda_graphs import GraphRunner

    return GraphRunner(model, pool)


def decode_pages(*, batch: int, context: int, steps: int) -> int:
    """Return how many pages `decode_seconds` needs."""
    return batch * -(-(context + WARM_UP_STEPS + steps) // PAGE_TOKENS)


def decode_seconds(model: LlamaModel, machine: Machine, *, batch: int, context: int, steps: int) -> float:
    """Return the median of a greedy step of some sequences, whose pages hold random numbers and lie scattered."""
    pool = model.new_pool(decode_pages(batch=batch, context=context, steps=steps))
    pool.keys.normal_()
    pool.values.normal_()
    pages = pool.allocate(pool.num_pages)
    random.Random(0).shuffle(pages)
    each = len(pages) // batch
    kvs = [
        KVSequence(pool, pages[index * each : (index + 1) * each], length=context) for index in range(batch)
    ]
    runner = new_runner(model, pool)
    rows = [Row(token_id=1, kv=kv, draw=GREEDY) for kv in kvs]
    for _ in range(WARM_UP_STEPS):
        runner.decode(rows)
    return statistics.median(machine.seconds(lambda: runner.decode(rows)) for _ in range(steps))


def first_token_pages(*, context: int, new_tokens: int) -> int:
    """Return how many pages `first_token` needs."""
    return 2 * -(-(context + new_tokens) // PAGE_TOKENS)


def first_token(
    model: LlamaModel, machine: Machine, *, context: int, new_tokens: int, chunk: int, repetitions: int
) -> FirstToken:
    """Return the medians of prefilling a prompt, and of prefilling what comes after it when it is cached."""
    pool = model.new_pool(first_token_pages(context=context, new_tokens=new_tokens))
    cache = KVCache(pool, "benchmark")
    ids = random.Random(0)
    cold, warm = [], []
    for _ in range(repetitions + 1):
        prompt = ids.choices(range(model.config.vocab_size), k=context + new_tokens)
        cold.append(machine.seconds(lambda: _run(model, cache, prompt[:context], chunk)))  # noqa: B023  # runs now
        warm.append(machine.seconds(lambda: _run(model, cache, prompt, chunk)))  # noqa: B023  # runs now
        cache.clear()
    return FirstToken(cold=statistics.median(cold[1:]), warm=statistics.median(warm[1:]))


def _run(model: LlamaModel, cache: KVCache, ids: list[int], chunk: int) -> int:
    """Compute what is not cached of a prompt, chunk by chunk, and leave it to the cache; return the next token."""
    kv, _ = cache.open(ids[:-1], scope="")
    cache.reserve(kv, len(ids))
    while True:
        part = Part(ids=ids[kv.length : kv.length + chunk], kv=kv)
        (output,) = model.forward_parts([part])
        if kv.length == len(ids):
            break
    token_id = int(output.logits[-1].argmax())
    cache.close(kv, ids, scope="", public_tokens=0, disposable=False)
    return token_id

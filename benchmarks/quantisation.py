"""What smaller weights and smaller keys and values cost in quality, and what they save: against exact fp32.

`python -m benchmarks.quantisation` reads prose that every machine has, the docstrings of some modules of Python's
standard library (so perplexities of two versions of Python differ a little), and prints JSON and a table. It exits 1
where a type of the CPU's names another next token than fp32 too often to be of use. int4, which is for GPUs, is
computed by the reference and not timed. The embedded model's file has four bits a weight itself, in the very groups of
int4, so quality is measured a second time with its channels in another order: the same function in other groups.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import heapq
import inspect
import json
import sched
import shelve
import socketserver
import statistics
import string
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that every reader of torch code knows

from agentkit.inference.catalog import EMBEDDED_MODEL, resolve
from agentkit.inference.checkpoint import Checkpoint, load_checkpoint
from agentkit.inference.config import KVType, WeightType
from agentkit.inference.kv_sequence import KVSequence
from agentkit.inference.matrices import FEW_ROWS
from agentkit.inference.model import PAGE_TOKENS, LlamaModel, Part
from agentkit.inference.tokenizer import load_tokenizer
from benchmarks.reordered import reordered

MODULES = (argparse, contextlib, difflib, heapq, shelve, sched, socketserver, string, types)
LEAST_AGREEMENT = 0.97
CACHED_TOKENS = 256
BATCH = 8
KINDS: tuple[tuple[WeightType, KVType], ...] = (
    ("float32", "float32"),
    ("float32", "bfloat16"),
    ("bfloat16", "float32"),
    ("int8", "float32"),
    ("int8", "bfloat16"),
)
REORDERED: tuple[WeightType, ...] = ("float32", "int8", "int4")


def logits_by(model: LlamaModel, ids: torch.Tensor, rows: int) -> torch.Tensor:
    """Return the logits of all ids, computed so many rows at a time."""
    kv = model.new_buffer(len(ids))
    starts = range(0, len(ids), rows)
    return torch.cat([model.forward(ids[start : start + rows], kv, last_only=False) for start in starts])


def quality(logits: torch.Tensor, exact: torch.Tensor, ids: torch.Tensor) -> dict[str, float]:
    expected = exact.log_softmax(dim=-1)
    found = logits.log_softmax(dim=-1)
    return {
        "perplexity": F.nll_loss(found[:-1], ids[1:]).exp().item(),
        "agreement": (logits.argmax(dim=-1) == exact.argmax(dim=-1)).float().mean().item(),
        "kl_divergence": F.kl_div(found, expected, log_target=True, reduction="batchmean").item(),
        "largest_logit_error": (logits - exact).abs().max().item(),
    }


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def steps_of(model: LlamaModel, ids: torch.Tensor, sequences: int) -> Callable[[], object]:
    """Return a function that decodes one token for each of some sequences of `CACHED_TOKENS`."""
    pool = model.new_pool(sequences * (CACHED_TOKENS // PAGE_TOKENS + 1))
    held = [KVSequence(pool) for _ in range(sequences)]
    for sequence in held:
        model.forward(ids[:CACHED_TOKENS], sequence)

    def step() -> None:
        model.forward_parts([Part(ids=[int(ids[0])], kv=sequence) for sequence in held])
        for sequence in held:
            sequence.truncate(CACHED_TOKENS)

    return step


def prose() -> str:
    """Return the docstrings, as their authors laid them out."""
    return "\n\n".join([heapq.__about__, *filter(None, map(inspect.getdoc, MODULES))])


def measure(reference: str, tokens: int, rounds: int) -> dict[str, Any]:
    path = resolve(reference).path
    checkpoint = load_checkpoint(path)
    ids = torch.tensor(load_tokenizer(path).encode(prose())[:tokens])
    exact = logits_by(open_model(checkpoint, "float32", "float32"), ids, len(ids))
    rows = [measure_quality(checkpoint, *kind, ids, exact) for kind in KINDS]
    untimed = [measure_quality(checkpoint, "int4", "float32", ids, exact)]
    other_order = reordered(checkpoint)
    for weights in REORDERED:
        row = measure_quality(other_order, weights, "float32", ids, exact)
        untimed.append(row | {"weights": f"{weights} reordered"})
    del exact, other_order
    for row, times in zip(rows, measure_speed(checkpoint, ids, rounds), strict=True):
        row["milliseconds"] = times
    return {
        "model": reference,
        "python": sys.version.split()[0],
        "tokens": len(ids),
        "threads": torch.get_num_threads(),
        "rows": rows,
        "untimed_rows": untimed,
    }


def measure_quality(
    checkpoint: Checkpoint, weights: WeightType, kv_dtype: KVType, ids: torch.Tensor, exact: torch.Tensor
) -> dict[str, Any]:
    started = time.perf_counter()
    model = open_model(checkpoint, weights, kv_dtype)
    opened = time.perf_counter() - started
    row = {
        "weights": weights,
        "kv_dtype": kv_dtype,
        "weight_bytes": model.weight_bytes,
        "kv_token_bytes": model.page_bytes(1),
        "kv_tokens_in_1_GiB": (1 << 30) // model.page_bytes(1),
        "compiled": model.compiled,
        "open_seconds": round(opened, 2),
        "decode": quality(logits_by(model, ids, FEW_ROWS), exact, ids),
        "prefill": quality(logits_by(model, ids, len(ids)), exact, ids),
    }
    del model
    gc.collect()
    return row


def measure_speed(checkpoint: Checkpoint, ids: torch.Tensor, rounds: int) -> list[dict[str, float]]:
    """Return the medians of one token, one of each of `BATCH` sequences, and a prefill; all kinds take turns."""
    actions = []
    for weights, kv_dtype in KINDS:
        model = open_model(checkpoint, weights, kv_dtype)
        buffer = model.new_buffer(CACHED_TOKENS)

        def prefill(model: LlamaModel = model, buffer: KVSequence = buffer) -> None:
            model.forward(ids[:CACHED_TOKENS], buffer)
            buffer.truncate(0)

        actions.append(
            {
                "one": steps_of(model, ids, 1),
                f"batch of {BATCH}": steps_of(model, ids, BATCH),
                f"prefill of {CACHED_TOKENS}": prefill,
            }
        )
    times: list[dict[str, list[float]]] = [{name: [] for name in kind} for kind in actions]
    for _ in range(rounds):
        for kind, measured in zip(actions, times, strict=True):
            for name, action in kind.items():
                measured[name].append(1000 * seconds(action))
    return [{name: round(statistics.median(each), 2) for name, each in kind.items()} for kind in times]


def open_model(checkpoint: Checkpoint, weights: WeightType, kv_dtype: KVType) -> LlamaModel:
    return LlamaModel(
        checkpoint.config, checkpoint.tensors, weights=weights, kv_dtype=getattr(torch, kv_dtype)
    )


def table(figures: dict[str, Any]) -> str:
    lines = [
        f"{'weights, KV':<26}{'weights MB':>11}{'KV B/token':>11}{'perplexity':>11}{'agreement':>10}{'KL':>9}"
        f"{'token ms':>10}{f'{BATCH} tokens':>10}{'prefill':>10}"
    ]
    for row in figures["rows"] + figures["untimed_rows"]:
        times = row.get("milliseconds", {}).values()
        decode = row["decode"]
        lines.append(
            f"{row['weights'] + ', ' + row['kv_dtype']:<26}{row['weight_bytes'] / 1e6:>11.0f}"
            f"{row['kv_token_bytes']:>11}{decode['perplexity']:>11.3f}{decode['agreement']:>10.2%}"
            f"{decode['kl_divergence']:>9.5f}" + "".join(f"{milliseconds:>10.1f}" for milliseconds in times)
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="any model reference")
    parser.add_argument("--tokens", type=int, default=1024, help="how much of the text is read, at most")
    parser.add_argument("--rounds", type=int, default=30, help="times that each kind is timed, in turns")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(arguments.model, arguments.tokens, arguments.rounds)
    print(json.dumps(figures, indent=2))
    print(table(figures))
    worst = min(row["decode"]["agreement"] for row in figures["rows"])
    return 0 if worst >= LEAST_AGREEMENT else 1


if __name__ == "__main__":
    sys.exit(main())

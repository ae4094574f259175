"""The GPU path beside the floors of its machine and beside transformers, on random weights of Llama 3.1 8B's shape.

`python -m benchmarks.gpu` needs torch 2.11 with CUDA, Triton 3.6 and transformers 5, and downloads nothing. It checks
kernels, graphs and masks first, then prints a line for each measurement and JSON at the end. It exits 1 where a check
fails, or where a decode step of one sequence is slower than its target. `--tiny --device cpu` runs all of it small.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_args

import torch

from agentkit.inference.config import ModelConfig
from agentkit.inference.model import PAGE_TOKENS, LlamaModel
from benchmarks.gpu_checks import CheckError, check_kernel, check_products, check_steps, require_small
from benchmarks.gpu_engine import (
    decode_pages,
    decode_seconds,
    first_token,
    first_token_pages,
    new_runner,
)
from benchmarks.gpu_machine import GIB, Floors, Machine
from benchmarks.gpu_model import LLAMA_31_8B, TINY, Cost, QuantizedWeights, cost_of, random_tensors
from benchmarks.gpu_peer import Peer, PeerTimes, peer_bytes

TARGET = 0.85
"""Of the floor, for a decode step of one sequence."""

Row: TypeAlias = dict[str, Any]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and with what."""

    config: ModelConfig
    dtype: torch.dtype
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    steps: int
    new_tokens: int
    chunk: int
    repetitions: int
    buffer_bytes: int
    matrix_size: int
    spare_bytes: int  # for activations, workspaces and graphs


FULL = Plan(
    config=LLAMA_31_8B,
    dtype=torch.bfloat16,
    batches=(1, 8, 32),
    contexts=(1024, 8192, 32_768),
    steps=30,
    new_tokens=150,
    chunk=2048,
    repetitions=5,
    buffer_bytes=4 * GIB,
    matrix_size=8192,
    spare_bytes=3 * GIB,
)
SMALL = Plan(
    config=TINY,
    dtype=torch.float32,
    batches=(1, 3),
    contexts=(40, 100),
    steps=3,
    new_tokens=10,
    chunk=32,
    repetitions=2,
    buffer_bytes=1 << 20,
    matrix_size=64,
    spare_bytes=0,
)


class Bench:
    """One model on one machine, ours and the peer's around the same weights; and ours again with quantised ones."""

    def __init__(self, plan: Plan, device: torch.device, quantized: Sequence[QuantizedWeights] = ()) -> None:
        self.plan = plan
        self._quantized = quantized
        self.machine = Machine(device)
        self.floors: Floors = self.machine.floors(
            buffer_bytes=plan.buffer_bytes, matrix_size=plan.matrix_size
        )
        self.cost: Cost = cost_of(plan.config, plan.dtype)
        self._tensors = random_tensors(plan.config, device=device, dtype=plan.dtype)
        self.model = LlamaModel(plan.config, self._tensors)
        self.peer = Peer(plan.config, self._tensors)
        self._page_bytes = self.model.page_bytes(PAGE_TOKENS)
        self._peer_prefill: dict[int, PeerTimes | str] = {}

    def check(self) -> dict[str, float]:
        """Compare everything with plain torch.

        Raises:
            CheckError: where something differs.
        """
        errors = self._check_steps(self.model)
        interpreted = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None
        has_kernels = self.machine.is_gpu or interpreted
        if has_kernels:
            errors |= check_kernel(self.plan.config, self.machine.device, self.plan.dtype)
        for weights in self._quantized:
            if has_kernels:
                errors |= check_products(weights, self.plan.config, self.machine.device, self.plan.dtype)
            steps = self._check_steps(LlamaModel(self.plan.config, self._tensors, weights=weights))
            errors |= {f"{weights}, {name}": error for name, error in steps.items()}
        require_small(errors)
        return errors

    def _check_steps(self, model: LlamaModel) -> dict[str, float]:
        return check_steps(model, new_runner(model, model.new_pool(16)), steps=30)

    def rows(self) -> Iterator[Row]:
        """Measure everything, the longest last."""
        for context in self.plan.contexts:
            for batch in self.plan.batches:
                yield self._decode(batch, context)
            yield from self._prefill(context)
        for weights in self._quantized:
            yield from self._decode_quantized(weights)

    def _decode_quantized(self, weights: QuantizedWeights) -> Iterator[Row]:
        """Measure the decode steps again, beside what the smaller weights take to read."""
        model = LlamaModel(self.plan.config, self._tensors, weights=weights)
        cost = cost_of(self.plan.config, self.plan.dtype, weights)
        for context in self.plan.contexts:
            for batch in self.plan.batches:
                yield row(
                    f"decode, {weights}",
                    batch=batch,
                    context=context,
                    tokens=batch,
                    ours=self._decode_seconds(model, batch, context),
                    floor=cost.decode_bytes(batch=batch, context=context) / self.floors.bytes_per_second,
                    theirs="has the weights as they were",
                )

    def _decode_seconds(self, model: LlamaModel, batch: int, context: int) -> float | str:
        steps = self.plan.steps
        return self._measured(
            decode_pages(batch=batch, context=context, steps=steps) * self._page_bytes,
            lambda: decode_seconds(model, self.machine, batch=batch, context=context, steps=steps),
        )

    def _decode(self, batch: int, context: int) -> Row:
        """Measure a decode step of some sequences of one length."""
        plan = self.plan
        ours = self._decode_seconds(self.model, batch, context)
        theirs = self._measured(
            peer_bytes(plan.config, batch=batch, context=context, itemsize=plan.dtype.itemsize),
            lambda: self.peer.times(batch=batch, context=context, steps=plan.steps),
        )
        if batch == 1:
            self._peer_prefill[context] = theirs
        return row(
            "decode",
            batch=batch,
            context=context,
            tokens=batch,
            ours=ours,
            floor=self.cost.decode_bytes(batch=batch, context=context) / self.floors.bytes_per_second,
            theirs=theirs if isinstance(theirs, str) else theirs.step,
        )

    def _prefill(self, context: int) -> list[Row]:
        """Measure the first token of a prompt, cold and warm; the peer's is that of its decode run."""
        plan, end = self.plan, context + self.plan.new_tokens
        times = self._measured(
            first_token_pages(context=context, new_tokens=plan.new_tokens) * self._page_bytes,
            lambda: first_token(
                self.model,
                self.machine,
                context=context,
                new_tokens=plan.new_tokens,
                chunk=plan.chunk,
                repetitions=plan.repetitions,
            ),
        )
        theirs = self._peer_prefill[context]
        return [
            row(
                "prefill, first token cold",
                batch=1,
                context=context,
                tokens=context,
                ours=times if isinstance(times, str) else times.cold,
                floor=self._prefill_floor(0, context),
                theirs=theirs if isinstance(theirs, str) else theirs.first_token,
            ),
            row(
                f"{plan.new_tokens} more, first token warm",
                batch=1,
                context=context,
                tokens=plan.new_tokens,
                ours=times if isinstance(times, str) else times.warm,
                floor=self._prefill_floor(context, end),
                theirs="generate keeps no cache between calls",
            ),
        ]

    def _prefill_floor(self, start: int, end: int) -> float:
        """Return the seconds of computing, or of reading the weights once, whichever is more."""
        computing = self.cost.prefill_operations(start=start, end=end) / self.floors.operations_per_second
        return max(computing, self.cost.weight_bytes / self.floors.bytes_per_second)

    def _measured(self, needed_bytes: int, measure: Callable[[], T]) -> T | str:
        """Measure where there is memory for it; else say why not."""
        needed, free = needed_bytes + self.plan.spare_bytes, self.machine.free_bytes()
        if needed > free:
            return f"needs {needed / GIB:.1f} GiB, {free / GIB:.1f} are free"
        try:
            return measure()
        except Exception as error:  # noqa: BLE001  # the other measurements are worth having
            return f"failed with {free / GIB:.1f} GiB free: {type(error).__name__}: {error}"


def row(
    what: str, *, batch: int, context: int, tokens: int, ours: float | str, floor: float, theirs: float | str
) -> Row:
    """Return seconds, tokens per second and ratios; a string in place of seconds says why there are none."""
    seconds = {"ours": ours, "floor": floor, "transformers": theirs}
    known = {name: value for name, value in seconds.items() if not isinstance(value, str)}
    return {
        "what": what,
        "batch": batch,
        "context": context,
        "seconds": known,
        "tokens_per_second": {name: tokens / value for name, value in known.items()},
        "of_floor": floor / known["ours"] if "ours" in known else None,
        "times_transformers": known["transformers"] / known["ours"] if len(known) == 3 else None,
        "skipped": {name: value for name, value in seconds.items() if isinstance(value, str)},
    }


HEADER = (
    f"{'':<28}{'batch':>6}{'context':>9}{'ms':>10}{'tokens/s':>11}{'floor':>11}{'of floor':>10}"
    f"{'transformers':>14}{'times':>7}"
)


def line(one: Row) -> str:
    """Return a row of the table, and below it what was skipped."""
    rates = one["tokens_per_second"]
    cells = [
        f"{one['what']:<28}{one['batch']:>6}{one['context']:>9}",
        _cell(one["seconds"].get("ours"), ">10.2f", scale=1000),
        _cell(rates.get("ours"), ">11.1f"),
        _cell(rates["floor"], ">11.1f"),
        _cell(one["of_floor"], ">10.1%"),
        _cell(rates.get("transformers"), ">14.1f"),
        _cell(one["times_transformers"], ">7.2f"),
    ]
    skipped = [f"    {name} skipped: {reason}" for name, reason in one["skipped"].items()]
    return "\n".join(["".join(cells), *skipped])


def _cell(value: float | None, form: str, *, scale: float = 1) -> str:
    width = form[1:].partition(".")[0]
    return f"{'-':>{width}}" if value is None else f"{value * scale:{form}}"


def meets_target(rows: Sequence[Row]) -> bool:
    """Tell whether every decode step of one sequence was measured and is fast enough; print what is not."""
    alone = [one for one in rows if one["what"] == "decode" and one["batch"] == 1]
    reached = [(one["of_floor"] or 0.0) >= TARGET for one in alone]
    for one, good in zip(alone, reached, strict=True):
        print(
            f"target at batch 1, context {one['context']}: {one['of_floor'] or 0.0:.1%} of the floor, "
            f"at least {TARGET:.0%} wanted: {'met' if good else 'missed'}"
        )
    return all(reached)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="a name that torch knows")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and short prompts; no target")
    parser.add_argument(
        "--quantized",
        nargs="*",
        choices=get_args(QuantizedWeights),
        default=get_args(QuantizedWeights),
        help="weights to decode with besides bfloat16",
    )
    parser.add_argument("--output", type=Path, help="where to write the JSON, after every measurement")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    plan = SMALL if options.tiny else FULL
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(
            "this machine has no GPU that torch can use; --tiny --device cpu runs the script without one"
        )
    bench = Bench(plan, device, options.quantized)
    print(f"{bench.machine.name}: reads {bench.floors.bytes_per_second / 1e9:.0f} GB/s, ", end="")
    print(f"multiplies bf16 at {bench.floors.operations_per_second / 1e12:.1f} TFLOP/s")
    try:
        errors = bench.check()
    except CheckError as error:
        print(error)
        return 1
    rows: list[Row] = []
    figures = {
        "device": bench.machine.name,
        "torch": torch.__version__,
        "floors": asdict(bench.floors),
        "relative_errors": errors,
        "rows": rows,
    }
    print(HEADER)
    for one in bench.rows():
        rows.append(one)
        print(line(one), flush=True)
        if options.output is not None:
            options.output.write_text(json.dumps(figures, indent=2))
    print(json.dumps(figures, indent=2))
    return 0 if options.tiny or meets_target(rows) else 1


if __name__ == "__main__":
    sys.exit(main())

"""What prompt lookup brings to a turn that copies and costs one that does not. `python -m benchmarks.speculation`.

The copying turn repeats a tool's table of some 220 tokens, as text and as JSON under a grammar; the other one
writes a story. Each is generated with speculation and without, in turns, from a cached prompt; the tokens must be the
same. `price` is what a pass that verifies so many drafted tokens costs, in passes of one token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import anyio
import torch

from agentkit.inference.base import Completion, Grammar, SamplingParams, collect
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.config import EngineConfig
from agentkit.inference.engine import LocalEngine
from agentkit.inference.formats import format_for
from agentkit.inference.grammar import json_schema_grammar
from agentkit.inference.loading import load_model
from agentkit.inference.model import LlamaModel, Part
from agentkit.messages import Message

DRAFTS = (0, 1, 3, 7, 15)
CONTEXT = 512
CITIES = ("Paris", "Lyon", "Oslo", "Bergen", "Madrid", "Lisbon", "Vienna", "Prague", "Athens", "Dublin")
TABLE = json.dumps(
    [{"city": city, "celsius": 7 + 5 * index % 23, "wind": 3 * index} for index, city in enumerate(CITIES)]
)
ROW_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "celsius": {"type": "integer"}, "wind": {"type": "integer"}},
    "required": ["city", "celsius", "wind"],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is asked, and how far the answer is generated."""

    name: str
    prompt: str
    max_tokens: int
    grammar: Grammar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one turn: medians of tokens a second while decoding."""

    turn: str
    tokens: int
    drafted: int
    accepted: int
    off: float
    on: float
    gain: float


def turns(copied_tokens: int, other_tokens: int) -> list[Turn]:
    copy = f"Here is a table:\n{TABLE}\nRepeat the table exactly, and nothing else."
    table = json_schema_grammar({"type": "array", "items": ROW_SCHEMA, "minItems": 10, "maxItems": 10})
    return [
        Turn(name="copies", prompt=copy, max_tokens=copied_tokens),
        Turn(name="copies, grammar", prompt=copy, max_tokens=copied_tokens, grammar=table),
        Turn(name="does not copy", prompt="Write a short story about a lighthouse.", max_tokens=other_tokens),
    ]


async def measure(model: str, repetitions: int, copied_tokens: int, other_tokens: int) -> dict[str, Any]:
    loaded = load_model(model, EngineConfig())
    engines = {
        mode: LocalEngine(loaded.model, loaded.tokenizer, EngineConfig(speculation=mode), name=loaded.name)
        for mode in ("off", "prompt_lookup")
    }
    try:
        rows = [await one_turn(engines, turn, repetitions) for turn in turns(copied_tokens, other_tokens)]
    finally:
        for engine in engines.values():
            await engine.close()
    return {
        "model": loaded.name,
        "threads": torch.get_num_threads(),
        "repetitions": repetitions,
        "price": prices(loaded.model, repetitions),
        "turns": [asdict(row) for row in rows],
    }


async def one_turn(engines: dict[str, LocalEngine], turn: Turn, repetitions: int) -> Row:
    """Generate with and without, one after the other, once to warm up and then as often as asked."""
    speeds: dict[str, list[float]] = {mode: [] for mode in engines}
    for number in range(1 + repetitions):
        completions = {mode: await complete(engine, turn) for mode, engine in engines.items()}
        if len({completion.ids for completion in completions.values()}) > 1:
            raise RuntimeError(f"the turn that {turn.name} has another output with speculation")
        for mode, completion in completions.items():
            if number > 0:
                speeds[mode].append((len(completion.ids) - 1) / completion.usage.decode_seconds)
    usage = completions["prompt_lookup"].usage
    off, on = statistics.median(speeds["off"]), statistics.median(speeds["prompt_lookup"])
    pairs = zip(speeds["prompt_lookup"], speeds["off"], strict=True)
    return Row(
        turn=turn.name,
        tokens=usage.output_tokens,
        drafted=usage.drafted_tokens,
        accepted=usage.accepted_tokens,
        off=round(off, 2),
        on=round(on, 2),
        gain=round(statistics.median(with_it / without for with_it, without in pairs), 3),
    )


async def complete(engine: LocalEngine, turn: Turn) -> Completion:
    dialect = format_for(engine.tokenizer)
    prompt = dialect.render([Message.user(turn.prompt)])
    params = SamplingParams(max_tokens=turn.max_tokens, stop_ids=dialect.stop_ids)
    return await collect(engine.generate(prompt, params, grammar=turn.grammar))


def prices(model: LlamaModel, repetitions: int) -> dict[int, float]:
    """Return what a pass with so many drafted tokens costs, in passes of one token."""
    kv = model.new_buffer(CONTEXT + 1 + max(DRAFTS))
    ids = torch.randint(model.config.vocab_size, (CONTEXT + 1 + max(DRAFTS),)).tolist()
    model.forward_parts([Part(ids=ids[:CONTEXT], kv=kv)])
    seconds: dict[int, list[float]] = {draft: [] for draft in DRAFTS}
    for _ in range(1 + repetitions):
        for draft in DRAFTS:
            kv.truncate(CONTEXT)
            started = time.perf_counter()
            model.forward_parts([Part(ids=ids[CONTEXT : CONTEXT + 1 + draft], kv=kv, logits=1 + draft)])
            seconds[draft].append(time.perf_counter() - started)
    medians = {draft: statistics.median(measured[1:]) for draft, measured in seconds.items()}
    return {draft: round(measured / medians[0], 2) for draft, measured in medians.items()}


def table(figures: dict[str, Any]) -> str:
    lines = ["drafted tokens " + "".join(f"{draft:>8}" for draft in figures["price"])]
    lines.append("price of a pass" + "".join(f"{price:>8.2f}" for price in figures["price"].values()))
    lines.append(
        f"{'turn':<18}{'tokens':>8}{'drafted':>9}{'accepted':>10}{'off t/s':>9}{'on t/s':>9}{'gain':>7}"
    )
    lines += [
        f"{row['turn']:<18}{row['tokens']:>8}{row['drafted']:>9}{row['accepted']:>10}"
        f"{row['off']:>9.1f}{row['on']:>9.1f}{row['gain']:>7.2f}"
        for row in figures["turns"]
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="any model reference")
    parser.add_argument(
        "--repetitions", type=int, default=5, help="of each turn, with speculation and without"
    )
    parser.add_argument("--copied-tokens", type=int, default=300, help="of the turns that copy, at most")
    parser.add_argument("--other-tokens", type=int, default=128, help="of the turn that does not, at most")
    arguments = parser.parse_args()
    figures = anyio.run(
        measure, arguments.model, arguments.repetitions, arguments.copied_tokens, arguments.other_tokens
    )
    print(json.dumps(figures, indent=2))
    print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

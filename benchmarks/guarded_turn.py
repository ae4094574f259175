"""How long a guarded turn takes, over the unguarded one. `python -m benchmarks.guarded_turn`.

The same conversation, each question in its turn, under every policy: the same prompts and the same answers.
Rows: `default`; `probes`, what the embedded model's agents are judged by; `guard`, a model in Llama Guard 3's shape
with as many and as wide layers as the agent's, at the user's input and the model's output; the same `judged first`, as
if nothing ran beside it.

`alone` is what the guard's own computing takes with nothing beside it, as a share of the unguarded turn. Where both
models share the same cores, no overlap can hide it: 1 + `alone` is about the least that such a machine can reach.

Drafts are off: so small a model repeats itself, and prompt lookup would make its turns far shorter than a turn of
that length usually is.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, get_args

import anyio

from agentkit import Agent, Policy, RunStatus, SamplingParams, Session
from agentkit.agent.metering import MeteredEngine
from agentkit.inference.base import Engine, Priority, Score
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.config import EngineConfig, SpeculationMode, WeightType
from agentkit.inference.engine import LocalEngine
from agentkit.inference.loading import load_model
from agentkit.shields.base import Shield, Stage
from agentkit.shields.engine_address import EngineAddress
from agentkit.shields.llama_guard import LlamaGuard
from agentkit.shields.probe import Probe
from benchmarks.guard_model import REFERENCE, THRESHOLD, guard_engine

INSTRUCTIONS = "You are a helpful assistant. You explain things in plain words, and you give examples."
QUESTIONS = (
    "I have a small garden behind the house, about five metres by eight, with heavy soil that stays wet in spring "
    "and dries out hard in summer. The morning sun reaches the left half, the right half is in the shade of a wall. "
    "What could I plant there this year so that something is in flower from March to October, and what should I do "
    "about the soil before I begin? I can spend two hours on it every weekend.",
    "Thank you. My neighbour says that I should not dig at all, only put compost on top and let the worms do the "
    "rest. Is that true for a soil like mine? Please tell me what speaks for it and what against it, and how long "
    "it would take until I see a difference.",
    "And which three of these plants would you choose if there were room for three only? Say for each why, when to "
    "plant it, and how much water it wants in a dry summer.",
)
HIGHEST = {"probes": 1.10, "guard": 1.25}


class JudgedFirst(LlamaGuard):
    """Llama Guard as it was before anything ran beside it."""

    runs_model = False


class RecordedEngine(MeteredEngine):
    """A guard's engine that remembers what it was asked, so that it can be asked the same with nothing beside it."""

    def __init__(self, engine: LocalEngine) -> None:
        super().__init__(engine)
        self.asked: list[tuple[Sequence[int], Sequence[int], int]] = []

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        """Score as the engine behind does, and remember the question."""
        self.asked.append((prompt_ids, candidate_ids, public_prefix))
        return await super().score(
            prompt_ids, candidate_ids, priority=priority, scope=scope, public_prefix=public_prefix
        )

    async def seconds_alone(self, scope: str) -> tuple[float, int]:
        """Ask everything once more, as somebody else; return how long that took and the tokens that it prefilled."""
        started, tokens = time.perf_counter(), 0
        for prompt_ids, candidate_ids, public_prefix in self.asked:
            score = await self._engine.score(
                prompt_ids, candidate_ids, scope=scope, public_prefix=public_prefix
            )
            tokens += score.usage.prefilled_tokens
        return time.perf_counter() - started, tokens


@dataclass(slots=True, kw_only=True)
class Row:
    """An agent under one policy, and how long its turns took, in the order of all of them."""

    name: str
    agent: Agent
    guard: RecordedEngine | None = None
    seconds: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    guard_tokens: list[int] = field(default_factory=list)


def policy(stages: Mapping[str, Any], *, segment_tokens: int) -> Policy:
    """Return a policy with a guard at some stages and nothing else."""
    return Policy.parse(
        json.dumps(
            {
                "version": 1,
                "shields": {"content": {"use": "llama_guard", "model": REFERENCE}} if stages else {},
                "stages": {stage.value: stages.get(stage.value, []) for stage in Stage},
                "failure": {"timeout_ms": 600_000},
                "streaming": {"segment_tokens": segment_tokens},
            }
        )
    )


def rows(engine: LocalEngine, guard: LocalEngine, arguments: argparse.Namespace) -> list[Row]:
    """Return all rows, the unguarded one first."""

    def row(name: str, under: Policy) -> Row:
        return Row(name=name, agent=agent(under, {}))

    def probes_row() -> Row:
        async def engines(reference: str | EngineAddress) -> Engine:
            return engine

        under = Policy.for_model(EMBEDDED_MODEL)
        probes = {
            name: Probe(engines=engines, **shield.options)
            for name, shield in under.shields.items()
            if shield.use == "probe"
        }
        return Row(name="probes", agent=agent(under, probes))

    def guarded_row(name: str, kind: type[LlamaGuard]) -> Row:
        recorded = RecordedEngine(guard)

        async def engines(reference: str | EngineAddress) -> Engine:
            return recorded

        shield = kind(model=REFERENCE, engines=engines, threshold=THRESHOLD)
        return Row(name=name, agent=agent(guarding, {"content": shield}), guard=recorded)

    def agent(under: Policy, shields: Mapping[str, Shield]) -> Agent:
        sampling = SamplingParams(max_tokens=arguments.output_tokens)
        return Agent(engine, instructions=INSTRUCTIONS, policy=under, shields=shields, sampling=sampling)

    size = arguments.segment_tokens
    judged = [{"shield": "content", "on_hit": "block"}]
    guarding = policy({"user_input": judged, "model_output": judged}, segment_tokens=size)
    return [
        row("none", policy({}, segment_tokens=size)),
        row("default", Policy.default()),
        *([probes_row()] if arguments.model == EMBEDDED_MODEL else []),
        guarded_row("guard", LlamaGuard),
        guarded_row("guard, judged first", JudgedFirst),
    ]


async def one_turn(row: Row, session: Session, question: str) -> str:
    """Run one turn, write down how long it took, and return what was answered."""
    if row.guard is not None:
        row.guard.asked.clear()
    started = time.perf_counter()
    result = await session.run(question)
    seconds = time.perf_counter() - started
    if result.status is not RunStatus.COMPLETED:
        raise SystemExit(f"a turn under {row.name} ended as {result.status}: {result.blocked_by}")
    if row.guard is not None:
        alone, tokens = await row.guard.seconds_alone(f"{session.id} alone")
        row.alone.append(alone)
        row.guard_tokens.append(tokens)
    row.seconds.append(seconds)
    return str(result.output)


async def one_conversation(compared: Sequence[Row], repetition: int) -> None:
    """Have every question answered under every policy, the policies in another order each time."""
    # A tenant of its own each: what one row computed is in nobody else's cache.
    running = [
        (row, row.agent.session(f"row-{number}-{repetition}/1")) for number, row in enumerate(compared)
    ]
    for question in QUESTIONS:
        if len({await one_turn(row, session, question) for row, session in running}) > 1:
            raise SystemExit("the policies led to different answers: they cannot be compared")
        running = [*running[1:], running[0]]


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    config = EngineConfig(speculation=arguments.speculation, weights=arguments.weights)
    loaded = load_model(arguments.model, config)
    engine = LocalEngine(
        loaded.model, loaded.tokenizer, config, name=loaded.name, fingerprint=loaded.fingerprint
    )
    guard = await guard_engine(loaded.model.config, EngineConfig(weights=arguments.guard_weights))
    compared = rows(engine, guard, arguments)
    async with AsyncExitStack() as closing:
        for model in (engine, guard):
            closing.push_async_callback(model.close)
        for row in compared:
            await closing.enter_async_context(row.agent)
        await one_conversation(compared, repetition=0)
        for row in compared:  # the first one warmed up
            for kept in (row.seconds, row.alone, row.guard_tokens):
                kept.clear()
        for repetition in range(1, arguments.repetitions + 1):
            await one_conversation(compared, repetition)
    return {
        "model": engine.name,
        "questions": len(QUESTIONS),
        "repetitions": arguments.repetitions,
        "output_tokens": arguments.output_tokens,
        "segment_tokens": arguments.segment_tokens,
        "speculation": arguments.speculation,
        "weights": arguments.weights,
        "guard_weights": arguments.guard_weights,
        "rows": [figures(row, compared[0]) for row in compared],
    }


def figures(row: Row, unguarded: Row) -> dict[str, Any]:
    """Return the medians of a row: of its turns, and of their ratio to the unguarded turn beside each."""

    def over_unguarded(seconds: Sequence[float]) -> float | None:
        ratios = (
            [one / other for one, other in zip(seconds, unguarded.seconds, strict=True)] if seconds else []
        )
        return round(statistics.median(ratios), 3) if ratios else None

    return {
        "policy": row.name,
        "seconds": round(statistics.median(row.seconds), 3),
        "ratio": over_unguarded(row.seconds),
        "alone": over_unguarded(row.alone),
        "guard_tokens": statistics.median(row.guard_tokens) if row.guard_tokens else None,
    }


def table(measured: dict[str, Any]) -> str:
    lines = [
        f"{'policy':<22}{'turn':>9}{'over unguarded':>16}{'guard alone':>13}{'guard tokens':>14}{'target':>8}"
    ]
    for row in measured["rows"]:
        target = highest(row["policy"])
        lines.append(
            f"{row['policy']:<22}{row['seconds']:>7.2f} s{row['ratio']:>16.3f}"
            f"{'-' if row['alone'] is None else row['alone']:>13}"
            f"{'-' if row['guard_tokens'] is None else row['guard_tokens']:>14}"
            f"{'-' if target is None else target:>8}"
        )
    return "\n".join(lines)


def highest(name: str) -> float | None:
    """Return the ratio that a row is held to; None for those that are there to be compared with."""
    return HIGHEST.get(name)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="any model reference")
    parser.add_argument("--repetitions", type=int, default=5, help="conversations of three turns each")
    parser.add_argument("--output-tokens", type=int, default=192, help="at most, of each answer")
    parser.add_argument(
        "--segment-tokens", type=int, default=48, help="how much of an answer is judged at a time"
    )
    parser.add_argument("--speculation", choices=get_args(SpeculationMode), default="off")
    parser.add_argument("--weights", choices=get_args(WeightType), help="the agent's; float32 if left out")
    parser.add_argument(
        "--guard-weights",
        choices=get_args(WeightType),
        default="bfloat16",
        help="as Llama Guard 3 is published, by default",
    )
    arguments = parser.parse_args()
    measured = anyio.run(measure, arguments)
    print(json.dumps(measured, indent=2))
    print(table(measured))
    missed = [row for row in measured["rows"] if row["ratio"] > (highest(row["policy"]) or float("inf"))]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

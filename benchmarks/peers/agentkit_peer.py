"""agentkit: one scope a session, and the system prompt declared public as an agent's is."""

from __future__ import annotations

import argparse
import time

import anyio

from agentkit.inference.base import SamplingParams
from agentkit.inference.config import EngineConfig, SpeculationMode, WeightType
from agentkit.inference.engine import LocalEngine
from benchmarks.peers.protocol import Answer, Conversation, Turn, peak_mb, serve

WEIGHTS: dict[str, WeightType] = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}


class AgentkitPeer:
    """A `Peer`. Scopes are never used twice, so nothing but the system prompt is shared."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._num_conversations = 0

    def converse(self, conversation: Conversation) -> Answer:
        """Hold the conversation in an event loop of its own."""
        self._num_conversations += 1
        return anyio.run(self._converse, conversation)

    async def _converse(self, conversation: Conversation) -> Answer:
        system = conversation.system
        started = time.perf_counter()
        if system:
            await self._turn(system, 1, f"{self._num_conversations} system", public=len(system))
        system_seconds = time.perf_counter() - started
        turns: list[list[Turn]] = [[] for _ in conversation.turns]
        started = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for number in range(len(turns)):
                tasks.start_soon(self._session, conversation, number, turns[number])
        turns_seconds = time.perf_counter() - started
        return Answer(
            turns=turns, system_seconds=system_seconds, turns_seconds=turns_seconds, peak_mb=peak_mb()
        )

    async def _session(self, conversation: Conversation, number: int, done: list[Turn]) -> None:
        prompt, scope = list(conversation.system), f"{self._num_conversations} {number}"
        for new_ids in conversation.turns[number]:
            prompt += new_ids
            public = len(conversation.system)
            turn = await self._turn(prompt, conversation.output_tokens, scope, public=public)
            prompt += turn.ids
            done.append(turn)

    async def _turn(self, prompt: list[int], output_tokens: int, scope: str, *, public: int) -> Turn:
        params = SamplingParams(max_tokens=output_tokens)
        ids: list[int] = []
        first = 0.0
        started = time.perf_counter()
        async for token in self._engine.generate(prompt, params, scope=scope, public_prefix=public):
            if not ids:
                first = time.perf_counter() - started
            ids.append(token.id)
        return Turn(ids=ids, first_seconds=first, seconds=time.perf_counter() - started)


def config_for(arguments: argparse.Namespace, *, speculation: SpeculationMode = "off") -> EngineConfig:
    """Return the settings for weights of the precision; without drafts, as the other engines run too.

    Beside smaller weights, keys and values are bfloat16: the other engines keep these in 8 or 16 bits then.
    """
    return EngineConfig(
        threads=arguments.threads,
        weights=WEIGHTS[arguments.precision],
        kv_dtype="float32" if arguments.precision == "fp32" else "bfloat16",
        speculation=speculation,
    )


def load_with(arguments: argparse.Namespace, *, speculation: SpeculationMode) -> AgentkitPeer:
    """Load the model and start the engine."""
    config = config_for(arguments, speculation=speculation)
    return AgentkitPeer(anyio.run(LocalEngine.load, arguments.model, config))


def load(arguments: argparse.Namespace) -> AgentkitPeer:
    """Load the model and start the engine, which drafts nothing."""
    return load_with(arguments, speculation="off")


if __name__ == "__main__":
    serve(load, "agentkit", "torch")

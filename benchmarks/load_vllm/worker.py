"""One worker of the load test: an agent without a state of its own, which takes any turn of any session."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from time import perf_counter

import anyio

from agentkit import Agent, AgentKitError, Limits, RemotePool, RemoteTimeouts, SamplingParams
from agentkit.inference.base import GeneratedToken, Grammar, Priority, Score
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.tokenizer import Tokenizer
from benchmarks.load_vllm.effects import Effects
from benchmarks.load_vllm.jobs import Call, Done, Job
from benchmarks.vllm_server import MODEL

INSTRUCTIONS = "You write notes down for the user, and then say in a few words that you did."


class TimedEngine:
    """A pool, and how its generations went; implements `Engine`."""

    def __init__(self, pool: RemotePool) -> None:
        self._pool = pool
        self._calls: list[Call] = []

    def take_calls(self) -> tuple[Call, ...]:
        """Return the generations that ended since this was last asked."""
        calls, self._calls = tuple(self._calls), []
        return calls

    @property
    def tokenizer(self) -> Tokenizer:
        """The pool's."""
        return self._pool.tokenizer

    @property
    def context_length(self) -> int:
        """The pool's."""
        return self._pool.context_length

    @property
    def fingerprint(self) -> str:
        """The pool's."""
        return self._pool.fingerprint

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        grammar: Grammar | None = None,
        priority: Priority = Priority.INTERACTIVE,
        scope: str = "",
        public_prefix: int = 0,
    ) -> AsyncGenerator[GeneratedToken, None]:
        """Generate as the pool does."""
        begun, first = perf_counter(), 0.0
        tokens = self._pool.generate(
            prompt_ids, params, grammar=grammar, priority=priority, scope=scope, public_prefix=public_prefix
        )
        async with aclosing(tokens):
            async for token in tokens:
                first = first or perf_counter() - begun
                if token.usage is not None:
                    self._calls.append(
                        Call(
                            first_token=first,
                            prompt_tokens=token.usage.prompt_tokens,
                            cached_tokens=token.usage.cached_tokens,
                            output_tokens=token.usage.output_tokens,
                        )
                    )
                yield token

    async def score(
        self,
        prompt_ids: Sequence[int],
        candidate_ids: Sequence[int],
        *,
        priority: Priority = Priority.SHIELD,
        scope: str = "",
        public_prefix: int = 0,
    ) -> Score:
        """Score as the pool does."""
        return await self._pool.score(
            prompt_ids, candidate_ids, priority=priority, scope=scope, public_prefix=public_prefix
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.close()


async def main(database: str, urls: Sequence[str]) -> None:
    """Serve jobs until there are no more."""
    timeouts = RemoteTimeouts(first_token=300, next_token=120, retrying=300)
    pool = RemotePool(urls, MODEL, tokenizer=EMBEDDED_MODEL, timeouts=timeouts)
    await pool.start()
    engine, effects = TimedEngine(pool), await Effects.open(database)
    agent = Agent(
        engine,
        instructions=INSTRUCTIONS,
        tools=[effects.as_tool()],
        store=database,
        sampling=SamplingParams(max_tokens=32),
        limits=Limits(steps=3, seconds=600),
    )
    async with agent, anyio.create_task_group() as tasks:
        print("ready", flush=True)
        async for line in anyio.wrap_file(sys.stdin):
            tasks.start_soon(serve, agent, engine, Job.from_line(line))
    await effects.close()
    await engine.close()


async def serve(agent: Agent, engine: TimedEngine, job: Job) -> None:
    """Run one turn, or end one that was left unfinished, and say what came of it."""
    status, failure = "failed", None
    try:
        session = await agent.session(job.session).load()
        run = session.resume() if session.unfinished else session.run(job.text, tool_choice="required")
        status = (await run).status.value
    except AgentKitError as error:
        failure = f"{type(error).__name__}: {error}"
    done = Done(id=job.id, status=status, error=failure, calls=engine.take_calls())
    print(done.to_line(), flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2:])

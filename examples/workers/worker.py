"""A worker: takes a turn of any session on its standard input, and says what came of it on its standard output.

It keeps nothing between two turns: sessions are in the database, and what is cached of them is on the model servers.
"""

from __future__ import annotations

import json
import sys

import anyio

from agentkit import Agent, RemotePool, SamplingParams


async def main(name: str, database: str, model: str, tokenizer: str, urls: list[str]) -> None:
    pool = RemotePool(
        urls, model, tokenizer=tokenizer
    )  # for one server: RemoteEngine(url, model, tokenizer=tokenizer)
    agent = Agent(
        pool,
        instructions="You are a helpful assistant that answers in one short sentence.",
        store=database,
        sampling=SamplingParams(max_tokens=32),
    )
    async with agent:
        async for line in anyio.wrap_file(sys.stdin):
            asked = json.loads(line)
            session = await agent.session(asked["session"]).load()
            result = await session.run(asked["text"])
            usage = result.usage
            answer = {"worker": name, "answer": result.output, "cached": usage.cached_share}
            print(json.dumps(answer | {"messages": len(session.messages)}), flush=True)
    await pool.close()


if __name__ == "__main__":
    name, database, model, tokenizer, *urls = sys.argv[1:]
    anyio.run(main, name, database, model, tokenizer, urls)

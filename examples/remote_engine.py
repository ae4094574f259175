"""The same agent on this machine and on a server: one argument changes.

Run it with `python -m examples.remote_engine`: the embedded model answers, in this process. With a server that runs the
model (docs/remote.md says how to start one) it answers there, behind the same policy:

    AGENTKIT_ENGINE_URL=http://127.0.0.1:8000 AGENTKIT_ENGINE_MODEL=smollm2 python -m examples.remote_engine

The server's key, where it wants one, is in AGENTKIT_API_KEY. What the server cannot do, the log says.
"""

from __future__ import annotations

import asyncio
import os

from agentkit import Agent, Engine, RemoteEngine
from examples.weather import get_current_temperature

MODEL = "smollm2-135m-instruct"


def engine() -> str | Engine:
    """Return the model by its name, or the server that runs it."""
    url = os.environ.get("AGENTKIT_ENGINE_URL")
    if url is None:
        return MODEL
    return RemoteEngine(url, os.environ.get("AGENTKIT_ENGINE_MODEL", MODEL), tokenizer=MODEL)


async def main() -> None:
    agent = Agent(engine(), instructions="You respond to weather queries.", tools=[get_current_temperature])
    async with agent, agent.session("alice/42") as session:
        for question in ("What's the temperature in Paris right now?", "And in Lyon?"):
            result = await session.run(question)
            calls = [call for message in result.messages for call in message.tool_calls]
            print(f"asked:  {question}")
            for call in calls:
                print(f"call:   {call.name}({call.arguments})")
            print(f"answer: {result.output}")
            print(f"cached: {result.usage.cached_tokens} of {result.usage.input_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main())

"""A conversation that survives its process, goes on with the same token ids, and can be forked.

Run it with `python -m examples.sessions`. Sessions are kept in an SQLite file; here it is a temporary one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio

from agentkit import Agent, SamplingParams, Session


def make_agent(store: str) -> Agent:
    """Return an agent on the embedded model that keeps its sessions in the store."""
    return Agent(
        "smollm2-135m-instruct",
        instructions="You are a helpful assistant that answers in one short sentence.",
        store=store,
        sampling=SamplingParams(max_tokens=32),
    )


async def say(session: Session, text: str) -> None:
    """Run one turn and print how much of its prompt was prefilled, and how much came from the cache."""
    result = await session.run(text)
    usage = result.usage
    print(
        f"  {session.id:<10} {text:<31} {result.output:<33} "
        f"prefilled {usage.prefilled_tokens:>3}, cached {usage.cached_tokens:>3}"
    )


async def first_process(store: str) -> None:
    """Begin a session. Its second turn finds the first one in the cache."""
    print("first process")
    async with make_agent(store) as agent:
        session = agent.session("alice/42")  # "alice" is the tenant: only her sessions share cached tokens
        await say(session, "What is the capital of France?")
        await say(session, "And of Italy?")


async def second_process(store: str) -> None:
    """Go on where the first ended. Nothing is left of it but the file; the model is loaded anew."""
    print("second process")
    async with make_agent(store) as agent:
        session = await agent.session("alice/42").load()
        print(f"  {session.id:<10} holds {len(session.messages)} messages")
        await say(session, "And of Japan?")  # the cache is empty, so the conversation is prefilled once
        await say(session, "And of Egypt?")  # its ids are those that the model saw, so they are found again
        await fork(session)


async def fork(session: Session) -> None:
    """Begin a second future with the same past. The past is cached for both."""
    branch = await session.fork("alice/42-b")
    await say(branch, "And of Peru?")
    print(f"  the fork holds {len(branch.messages)} messages, the session still {len(session.messages)}")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'agent.db'}"
        await first_process(store)
        await second_process(store)


if __name__ == "__main__":
    anyio.run(main)

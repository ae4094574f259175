"""An agent that calls another one: shared engine, shared limits, an answer that is untrusted.

Run it with `python -m examples.sub_agent`. The replies of the two are one script here (`ScriptedEngine`), in the order
in which they speak. Everything else is the real thing: the policy that judges each of them, the approval that the
clerk's call needs once the archive was read, and the budget that both spend.
"""

from __future__ import annotations

import json

import anyio

from agentkit import Agent, ApprovalRequest, Limits, tool
from agentkit.testing import ScriptedEngine


def call(name: str, **arguments: str) -> str:
    """Return a call as a model writes it."""
    return json.dumps({"name": name, "parameters": arguments})


@tool(effect="read")
async def read_archive(year: str) -> str:
    """Read what the archive has about a year."""
    return f"{year}: the bridge was built."


@tool(effect="write")
async def file_note(text: str) -> str:
    """File a note."""
    return "Filed."


def approve(request: ApprovalRequest) -> bool:
    """Be the person who is asked."""
    print(f"asked:   {request.tool_name}({dict(request.arguments)}), because {request.reason}")
    return True


REPLIES = [
    call("clerk", task="Look up 1888 and file a note about it."),  # the agent
    call("read_archive", year="1888"),  # the clerk
    call("file_note", text="1888: bridge"),
    "The bridge was built in 1888. I filed a note.",
    "In 1888, says the clerk.",  # the agent
    call("clerk", task="Look up every year."),
    *(
        call("read_archive", year=str(year)) for year in range(1800, 1809)
    ),  # the clerk does not come to an end
]


async def main() -> None:
    engine = ScriptedEngine(REPLIES)
    clerk = Agent(engine, instructions="You keep the archive.", tools=[read_archive, file_note])
    agent = Agent(
        engine, tools=[clerk.as_tool("clerk", "Looks things up, and files notes.")], approver=approve
    )
    async with agent:
        for question in ("When was the bridge built?", "And everything else?"):
            print(f"\nuser:    {question}")
            result = await agent.run(question, limits=Limits(steps=6))
            print(f"clerk:   {result.messages[2].content}")
            print(f"trusted: {result.messages[2].provenance.trusted}")
            print(f"answer:  {result.output} ({result.status}{f', {result.limit}' if result.limit else ''})")


if __name__ == "__main__":
    anyio.run(main)
